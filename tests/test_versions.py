"""Versions that cannot work are refused at the import, with those that do; setup.py declares the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmckpt.versions import SUPPORTED, check_version

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize('package, version', [
    ('torch', '2.6.0'), ('torch', '2.6.0+cu124'), ('torch', '2.13.0'), ('torch', '2.15.0a0+git1234'), ('torch', '3.0'),
    ('mmengine', '0.10.5'), ('mmengine', '0.10.8')])
def test_supported_versions_pass(package, version):
    check_version(package, version)


@pytest.mark.parametrize('package, version, works', [
    ('torch', '1.13.1', 'torch >= 2.6'), ('torch', '2.5.1+cpu', 'torch >= 2.6'),
    ('mmengine', '0.10.4', 'mmengine >= 0.10.5, < 0.11'),
    ('mmengine', '0.11.0', "pip install 'mmengine>=0.10.5,<0.11'")])
def test_others_are_refused_with_those_that_work(package, version, works):
    with pytest.raises(RuntimeError, match=works):
        check_version(package, version)


def test_the_import_refuses_an_mmengine_that_is_too_old():
    code = "import mmengine; mmengine.__version__ = '0.10.4'; import mmckpt"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100)
    assert done.returncode != 0 and 'mmckpt works with mmengine >= 0.10.5' in done.stderr.splitlines()[-1]


def test_setup_declares_the_same():
    setup = (ROOT / 'setup.py').read_text()
    for package, (oldest, beyond) in SUPPORTED.items():
        assert f"'{package}>={oldest}{'' if beyond is None else f',<{beyond}'}'" in setup


def test_the_pythons_of_the_classifiers_are_those_of_which_the_readme_says_that_they_were_run():
    declared = re.findall(r"'(3\.\d+)'", (ROOT / 'setup.py').read_text())
    run = (ROOT / 'README.md').read_text().rpartition('Run on the CPU with Python')[2]
    assert declared and set(re.findall(r'\b(3\.\d+) \(', run)) == set(declared)
