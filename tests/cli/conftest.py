"""Commands on a small real project, in this process or in one of their own."""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from store_runs import AP, train

from mmckpt.cli.main import main

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / 'tests' / 'integration' / 'project', Path(__file__).parent / 'project']
STOCK = PROJECTS[1] / 'stock.py'

# Begins an attempt, and is killed when its input ends.
KILLED = """
import os, sys
from mmckpt.store import CheckpointStore
CheckpointStore(sys.argv[1]).open(resumed_from='epoch_5.pth')
print('open', flush=True)
sys.stdin.read()
os._exit(1)
"""

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


# Directories of checkpoints, and commands on them --------------------------------

@pytest.fixture
def used(tmp_path):
    """Run 1 with one step, then run 2 with four, of which 2, 3 and 5 were the best."""
    train(tmp_path / 'run', {1: 0.9})
    train(tmp_path / 'run', AP)
    return tmp_path / 'run'


@pytest.fixture
def mmckpt(capsys):
    """Run a command in this process; return exit status, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.err
        return status, printed.out, printed.err

    return run


@pytest.fixture
def listed(mmckpt):
    """What ``ls --json`` says."""
    return lambda *arguments: json.loads(mmckpt('ls', *arguments, '--json')[1])


@pytest.fixture
def on_terminal(monkeypatch):
    """Run a command on a real terminal of some width; return the lines that it shows."""

    def run(columns, *arguments):
        controller, terminal = os.openpty()
        shown = []

        def read():
            try:
                while True:
                    shown.append(os.read(controller, 4096))
            except OSError:
                os.close(controller)

        reader = threading.Thread(target=read)
        reader.start()
        with monkeypatch.context() as patch, open(terminal, 'w', encoding='utf-8') as stream:
            patch.setenv('COLUMNS', str(columns))
            patch.setenv('TERM', 'xterm')
            patch.setattr(sys, 'stdout', stream)
            patch.setattr(sys, 'stderr', stream)
            main([*map(str, arguments)])
        reader.join()
        text = b''.join(shown).decode()
        return [re.sub(r'\x1b\[[?\d;]*[A-Za-z]', '', line).rstrip() for line in re.split(r'[\r\n]+', text)]

    return run


@pytest.fixture
def training(used):
    """Another process that trains into the directory."""
    process = subprocess.Popen([sys.executable, '-c', KILLED, str(used)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'open\n'
    yield process
    process.communicate()
