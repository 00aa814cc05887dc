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


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A directory into which the wheel was installed, and one with configs that use it."""
    tmp = tmp_path_factory.mktemp('wheel')
    (tmp / 'source').mkdir()
    # Built in a copy: setuptools leaves its traces beside the sources.
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp / 'source' / part, symlinks=True)
        else:
            shutil.copy(ROOT / part, tmp / 'source' / part)
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    run(*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp, tmp / 'source', cwd=tmp, path='')
    [wheel] = tmp.glob('*.whl')
    run(*pip, 'install', '--no-deps', '--no-index', '--target', tmp / 'site', wheel, cwd=tmp, path='')
    (tmp / 'project').mkdir()
    for name, text in [('lazy.py', LAZY), ('runtime.py', RUNTIME), ('text.py', TEXT)]:
        (tmp / 'project' / name).write_text(text)
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
