"""Promises of the command line that need processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / 'tools'

# Stand-ins for Slurm, which a test machine does not have: one task of a job of one, on this machine.
SLURM = {
    'srun': """#!/bin/bash
echo "srun options: $*"
while [ "$1" != "$PYTHON" ]; do shift; done
SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST='node[1-1]' exec "$@"
""",
    'scontrol': """#!/bin/bash
[ "$*" = "show hostname node[1-1]" ] && echo 127.0.0.1
""",
}


@pytest.fixture
def port():
    """A port of this test's own; pytest-xdist runs several tests at once."""
    return str(29600 + os.getpid() % 2000)


def test_two_processes_train_one_model_and_evaluate_it(process, stock, tmp_path, port):
    # Ranks with BN statistics of their own do not evaluate what the file holds.
    done = process('bash', TOOLS / 'dist_train.sh', stock, 2, '--work-dir', 'run', '--safe', '--cfg-options',
                   'custom_hooks.1.type=SyncBuffersHook', cwd=tmp_path, PORT=port)
    assert done.returncode == 0, done.stdout[-4000:]
    assert 'Distributed training: True' in done.stdout and 'GPU number: 2' in done.stdout
    [trained] = re.findall(r'^  acc +(\S+) +(\S+)$', done.stdout, re.MULTILINE)
    checkpoint = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    # 256 samples in batches of 64 on 2 ranks.
    assert checkpoint['meta']['iter'] == 4 and len(checkpoint['mmckpt']['rng']['ranks']) == 2
    done = process('bash', TOOLS / 'dist_test.sh', stock, trained[1], 2, '--work-dir', 'logs',
                   cwd=tmp_path, PORT=port)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.findall(r'^  acc +(\S+)$', done.stdout, re.MULTILINE) == [trained[0]]


def test_bad_input_ends_all_processes_with_one_message(process, stock, tmp_path, port):
    done = process('bash', TOOLS / 'dist_train.sh', stock, 2, '--work-dir', 'run', '--resume-from', 'no.pth',
                   cwd=tmp_path, PORT=port)
    assert done.returncode != 0
    assert done.stdout.count('error: checkpoint no.pth does not exist') == 1
    assert 'exitcode  : 2' in done.stdout


def test_slurm_task_trains_without_an_accelerator(process, stock, tmp_path, port):
    for name, script in SLURM.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    done = process('bash', TOOLS / 'slurm_train.sh', 'debug', 'digits', stock, 'run', '--no-validate',
                   cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}",
                   GPUS='1', GPUS_PER_NODE='0', MASTER_PORT=port)
    assert done.returncode == 0, done.stdout[-4000:]
    assert 'srun options: -p debug --job-name=digits --ntasks=1 --cpus-per-task=5' in done.stdout
    assert 'Distributed launcher: slurm' in done.stdout and (tmp_path / 'run' / 'epoch_2.pth').is_file()


@pytest.mark.parametrize('script, arguments', [
    ('dist_train.sh', ['cfg.py']), ('dist_train.sh', ['cfg.py', 'two']),
    ('dist_test.sh', ['cfg.py', 'c.pth']), ('slurm_train.sh', ['debug', 'job']), ('slurm_test.sh', [])])
def test_a_script_with_too_few_arguments_says_how_to_use_it(process, tmp_path, script, arguments):
    done = process('bash', TOOLS / script, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and ('usage: ' in done.stdout or 'GPUS must be' in done.stdout)


def test_tool_in_another_directory_reports_bad_input_without_a_traceback(process, tmp_path):
    done = process(sys.executable, TOOLS / 'train.py', 'no_config.py', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith('error: config file no_config.py does not exist')
    assert 'Traceback' not in done.stdout


@pytest.mark.parametrize('number, safe, status', [
    (signal.SIGTERM, [], 143), (signal.SIGINT, [], 130), (signal.SIGTERM, ['--safe'], 75)])
def test_a_stopped_training_ends_with_the_status_of_its_signal(environment, stock, tmp_path, number, safe, status):
    arguments = [sys.executable, TOOLS / 'train.py', stock, '--work-dir', 'run', *safe, '--cfg-options',
                 'train_cfg.max_epochs=100000', 'custom_hooks.0.patience=100000',
                 'default_hooks.checkpoint.type=mmckpt.CheckpointHook']
    with open(tmp_path / 'log.txt', 'w') as log:
        training = subprocess.Popen(list(map(str, arguments)), cwd=tmp_path, env=environment,
                                    stdout=log, stderr=log, preexec_fn=listen_to_ctrl_c)
        try:
            wait_for('Saving checkpoint at 2 epochs', tmp_path / 'log.txt', training)
            training.send_signal(number)
            assert training.wait(60) == status, (tmp_path / 'log.txt').read_text()[-3000:]
        finally:
            training.kill()


def listen_to_ctrl_c():
    """Undo what a shell does to its background jobs, this test run for instance."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(text, file, running, seconds=120):
    """Wait until a process has printed a text."""
    until = time.monotonic() + seconds
    while text not in file.read_text():
        assert running.poll() is None and time.monotonic() < until, file.read_text()[-3000:]
        time.sleep(.1)
