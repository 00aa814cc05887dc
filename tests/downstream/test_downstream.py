"""MMPose, MMDetection, MMSegmentation and MMPretrain as on PyPI: their own configs, killed and resumed, to the bit.

Run by hand: ``bash tests/downstream/run.sh`` builds the environment and starts this.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from digests import digests

pytestmark = pytest.mark.downstream
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Config, project, last file, metrics chosen as best.
PROJECTS = {
    'pose': ('mmpose', 'epoch_4.pth', ['coco/AP', 'PCK']),
    'detection': ('mmdet', 'epoch_4.pth', ['coco/bbox_mAP']),
    'segmentation': ('mmseg', 'iter_16.pth', ['mIoU']),
    'classification': ('mmpretrain', 'epoch_4.pth', ['accuracy/top1']),
    'classification_lazy': ('mmpretrain', 'epoch_4.pth', ['accuracy/top1']),
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A directory with the data, from which the configs name it by relative paths."""
    directory = tmp_path_factory.mktemp('projects')
    subprocess.run([sys.executable, '-c', 'import sys, pathlib, tiny_data; tiny_data.write_all(pathlib.Path("data"))'],
                   cwd=directory, check=True, env=dict(os.environ, PYTHONPATH=str(HERE)))
    return directory


@pytest.fixture(params=PROJECTS)
def project(request):
    """Name of a config, skipped where its project is not installed."""
    if importlib.util.find_spec(PROJECTS[request.param][0]) is None:
        pytest.skip(f'{PROJECTS[request.param][0]} is not installed')
    return request.param


def start(root, name, work_dir, *arguments, tool=('-m', 'mmckpt.cli.main', 'train'), safe=('--safe',)):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    with open(root / f'{work_dir}.txt', 'a') as out:
        return subprocess.Popen(
            [sys.executable, *map(str, tool), str(HERE / 'configs' / f'{name}.py'), *safe, '--work-dir', work_dir,
             *arguments, '--cfg-options', 'randomness.seed=3'],
            cwd=root, env=environment, stdout=out, stderr=out, start_new_session=True)


def train(root, name, work_dir, *arguments, **kwargs):
    process = start(root, name, work_dir, *arguments, **kwargs)
    try:
        status = process.wait(300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, (root / f'{work_dir}.txt').read_text()[-4000:]


def records(directory):
    try:
        return json.loads((directory / 'mmckpt_index.json').read_text())['records']
    except FileNotFoundError:
        return []


def test_kill_and_resume_is_the_run_that_was_never_stopped(root, project):
    _, last, bests = PROJECTS[project]
    train(root, project, f'{project}_straight')
    process = start(root, project, f'{project}_killed')
    deadline = time.monotonic() + 300
    while len(records(root / f'{project}_killed')) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'the training ended before it could be killed'
    train(root, project, f'{project}_killed', '--resume')
    straight, killed = (digests(root / f'{project}_{run}' / last) for run in ('straight', 'killed'))
    assert killed == straight
    roles = {role for record in records(root / f'{project}_killed') for role in record['roles']}
    assert {f'best:{metric}' for metric in bests} <= roles


def test_a_run_of_the_projects_own_tool_is_resumed(root, project):
    module, last, _ = PROJECTS[project]
    tool = Path(importlib.util.find_spec(module).origin).parent / '.mim' / 'tools' / 'train.py'
    text = (HERE / 'configs' / f'{project}.py').read_text().replace(", 'mmckpt::_base_/safe.py'", '')
    (root / f'{project}_stock.py').write_text(text)
    shutil.copy(HERE / 'configs' / 'lazy_runtime.py', root)
    half = 'train_cfg.max_iters=8' if 'iter' in last else 'train_cfg.max_epochs=2'
    train(root, project, f'{project}_stock', safe=(), tool=('-c', STOCK, tool, root / f'{project}_stock.py', half))
    train(root, project, f'{project}_stock', '--resume')
    log = (root / f'{project}_stock.txt').read_text()
    assert f'resumed epoch: {2 if "epoch" in last else 0}, iter: ' in log
    assert (root / f'{project}_stock' / last).is_file()


# Runs a project's train.py on a config of its own kind, for a part of the training.
STOCK = """
import runpy, sys
tool, config, option = sys.argv[1:4]
work_dir = sys.argv[sys.argv.index('--work-dir') + 1]
sys.argv = [tool, config, '--work-dir', work_dir, '--cfg-options', 'randomness.seed=3', option]
runpy.run_path(tool, run_name='__main__')
"""
