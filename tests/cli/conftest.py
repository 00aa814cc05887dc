"""Commands on a small real project, in this process or in one of their own."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mmckpt.cli.main import main

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / 'tests' / 'integration' / 'project', Path(__file__).parent / 'project']
STOCK = PROJECTS[1] / 'stock.py'

# Configs import the modules of these projects by name.
sys.path[:0] = map(str, PROJECTS)


def run_main(*arguments):
    """Run ``mmckpt`` in this process."""
    # MMEngine names experiments by the second; two in one second would share their message hub.
    return main([*map(str, arguments), '--cfg-options', f'experiment_name={uuid.uuid4().hex}'])


@pytest.fixture(scope='session')
def stock():
    """Path of a config with stock hooks only and no seed."""
    return str(STOCK)


@pytest.fixture(scope='session')
def trained(stock, tmp_path_factory):
    """Work directory of a finished run of 2 epochs with stock hooks; not to be written to."""
    work_dir = tmp_path_factory.mktemp('trained') / 'run'
    assert run_main('train', stock, '--work-dir', work_dir) == 0
    return work_dir


@pytest.fixture
def command(capsys):
    """Run ``mmckpt`` in this process; return exit status, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = run_main(*arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope='session')
def environment():
    """Environment of a process that finds mmckpt and the projects."""
    return dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [*PROJECTS, ROOT])), OMP_NUM_THREADS='1',
                PYTHON=sys.executable, PYTHONUNBUFFERED='1')


@pytest.fixture
def process(environment):
    """Run a program in a process of its own; return it finished, with its output."""

    def run(*arguments, cwd, **variables):
        return subprocess.run(list(map(str, arguments)), cwd=cwd, env=dict(environment, **variables),
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)

    return run
