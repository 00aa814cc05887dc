"""Commands on a small real project, in this process or in one of their own."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mmckpt.cli.main import main

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / 'tests' / 'integration' / 'project'
STOCK = Path(__file__).parent / 'project' / 'stock.py'


@pytest.fixture
def stock():
    """Path of a config with stock hooks only."""
    return str(STOCK)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``mmckpt`` in this process; return exit status, stdout and stderr."""
    monkeypatch.syspath_prepend(str(PROJECT))

    def run(*arguments):
        # MMEngine names experiments by the second; two in one second would share their message hub.
        extra = ['--cfg-options', f'experiment_name={uuid.uuid4().hex}']
        status = main([*map(str, arguments), *extra])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def process():
    """Run a program in a process of its own; return it finished, with its output."""

    def run(*arguments, cwd, **variables):
        environment = dict(os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1',
                           PYTHON=sys.executable, **variables)
        return subprocess.run(list(map(str, arguments)), cwd=cwd, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)

    return run
