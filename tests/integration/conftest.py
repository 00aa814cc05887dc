"""Runs real processes of a small real project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent / 'project'
ROOT = Path(__file__).parents[2]


def run_tool(tool, *args, cwd, expect=0, env=None):
    """Run ``tools/<tool>`` in its own process; return the finished process, output included."""
    environment = {**os.environ, 'PYTHONPATH': f'{PROJECT}{os.pathsep}{ROOT}', 'OMP_NUM_THREADS': '1',
                   'CUDA_VISIBLE_DEVICES': '', **(env or {})}
    done = subprocess.run([sys.executable, str(ROOT / 'tools' / tool), *map(str, args)], cwd=cwd, text=True,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
    if expect is not None:
        assert done.returncode == expect, f'exit status {done.returncode}\n{done.stdout[-6000:]}'
    return done


@pytest.fixture(scope='session')
def train():
    """Call ``train(work_dir, *args)``: ``tools/train.py`` on the tiny config."""

    def run(work_dir, *args, config='tiny_epochs.py', **kwargs):
        return run_tool('train.py', PROJECT / config, '--work-dir', work_dir, *args, cwd=work_dir.parent,
                        **kwargs)

    return run
