"""An installed mmckpt brings its configs and tools along, wherever it is used from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ['setup.py', 'README.md', 'LICENSE', 'mmckpt', 'configs', 'tools']

LAZY = """
from mmengine.config import read_base
with read_base():
    from mmckpt.configs.pose.digits_keypoints import *
train_cfg.update(max_epochs=7)
"""
# As in every project, the runtime sets default_hooks already.
RUNTIME = "default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=3))\nwork_dir = 'run'\n"
TEXT = "_base_ = ['runtime.py', 'mmckpt::_base_/safe.py', 'mmckpt::_base_/models/keypoint_net.py']\n"

READ = """
import sys
from mmengine.config import Config
import mmckpt
from mmckpt.cli.config import read_config
from mmckpt.cli.safe import asks_for_safety
lazy = Config.fromfile('lazy.py')
assert lazy.train_cfg.max_epochs == 7 and lazy.custom_hooks[0].type == 'mmckpt.RNGStateHook'
text = read_config('text.py')
assert text.default_hooks.checkpoint.interval == 3 and text.model.type == 'KeypointNet'
assert asks_for_safety(text) and not asks_for_safety(lazy)
print(mmckpt.__file__)
"""


def run(*command, cwd, path):
    done = subprocess.run(list(map(str, command)), cwd=cwd, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=240, env=dict(os.environ, PYTHONPATH=str(path)))
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


READ_EDITABLE = """
from mmckpt.cli.config import read_config
import mmckpt
for _ in range(2):
    assert read_config('lazy.py').train_cfg.max_epochs == 7
    assert read_config('text.py').model.type == 'KeypointNet'
    assert read_config('mmckpt::_base_/safe.py').mmckpt_safe
print(mmckpt.__file__)
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A directory with a copy of the sources, and one with configs that use the package."""
    tmp = tmp_path_factory.mktemp('wheel')
    (tmp / 'source').mkdir()
    # Built in a copy: setuptools leaves its traces beside the sources.
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp / 'source' / part, symlinks=True)
        else:
            shutil.copy(ROOT / part, tmp / 'source' / part)
    (tmp / 'project').mkdir()
    for name, text in [('lazy.py', LAZY), ('runtime.py', RUNTIME), ('text.py', TEXT)]:
        (tmp / 'project' / name).write_text(text)
    return tmp


@pytest.fixture(scope='module')
def installed(source):
    """The same directory, into which the wheel was installed."""
    tmp = source
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    run(*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp, tmp / 'source', cwd=tmp, path='')
    [wheel] = tmp.glob('*.whl')
    run(*pip, 'install', '--no-deps', '--no-index', '--target', tmp / 'site', wheel, cwd=tmp, path='')
    return tmp


def test_its_configs_are_inherited_from_any_directory(installed):
    printed = run(sys.executable, '-W', 'ignore', '-c', READ, cwd=installed / 'project', path=installed / 'site')
    assert printed.splitlines()[-1] == str(installed / 'site' / 'mmckpt' / '__init__.py')


def test_it_brings_its_tools_where_mim_looks_for_them(installed):
    package = installed / 'site' / 'mmckpt' / '.mim'
    assert (package / 'configs' / 'pose' / 'digits_keypoints.py').is_file()
    help_text = run(sys.executable, package / 'tools' / 'train.py', '--help', cwd=installed / 'project',
                    path=installed / 'site')
    assert '--safe' in help_text


def test_it_does_not_ask_for_an_mmcv_that_would_overwrite_the_one_of_a_project(installed):
    [metadata] = (installed / 'site').glob('mmckpt-*.dist-info/METADATA')
    wanted = [line for line in metadata.read_text().splitlines() if line.startswith('Requires-Dist: mmcv')]
    assert wanted and all('extra ==' in line for line in wanted)


def test_an_editable_install_has_its_configs_in_our_commands(source, tmp_path):
    run(sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv', cwd=tmp_path, path='')
    [site] = (tmp_path / 'venv').glob('lib/python*/site-packages')
    # Its own packages come first; torch and the others are those of this environment.
    others = [path for path in sys.path if path.endswith('site-packages')]
    (site / 'others.pth').write_text(f'import sys; sys.path += {others!r}')
    python = tmp_path / 'venv' / 'bin' / 'python'
    shutil.copytree(source / 'source', tmp_path / 'source', symlinks=True)
    run(sys.executable, '-m', 'pip', '--python', python, '-q', '--disable-pip-version-check', 'install', '--no-deps',
        '--no-index', '--no-build-isolation', '-e', tmp_path / 'source', cwd=tmp_path, path='')
    shutil.rmtree(tmp_path / 'source' / 'mmckpt.egg-info', ignore_errors=True)
    printed = run(python, '-W', 'ignore', '-c', READ_EDITABLE, cwd=source / 'project', path='')
    assert printed.splitlines()[-1] == str(tmp_path / 'source' / 'mmckpt' / '__init__.py')
