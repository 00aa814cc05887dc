"""Real trainings on several gloo ranks."""

import os
import subprocess
import sys

from forked import PROJECT, fork_ranks

from mmckpt.cli.main import main

ROOT = PROJECT.parents[2]


def launch(ranks, config, work_dir, *options, flags=()):
    """Run ``mmckpt train`` on some ranks and return what all of them printed.

    Args:
        ranks (int): Processes.
        config (Path): The config.
        work_dir (Path): Where the run lives.
        *options (str): For ``--cfg-options``.
        flags (Sequence[str]): Arguments of ``train``.
    """
    command = ['train', *_arguments(config, work_dir, options, flags)]
    return fork_ranks(ranks, _run, command, work_dir.parent, out=work_dir.parent / f'{work_dir.name}.out')


def launch_by_torchrun(ranks, config, work_dir, *options, expect=0, torchrun=(), flags=()):
    """Do what :func:`launch` does with ``tools/train.py`` and torchrun, which watches the processes.

    Args:
        expect (int): 0 if the job must end well, anything else if it must not.
        torchrun (Sequence[str]): Arguments of torchrun.
    """
    environment = dict(os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1',
                       CUDA_VISIBLE_DEVICES='')
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}', *torchrun,
         str(ROOT / 'tools/train.py'), *_arguments(config, work_dir, options, flags)],
        cwd=work_dir.parent, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    assert (done.returncode == 0) == (expect == 0), done.stdout[-6000:]
    return done.stdout


def _arguments(config, work_dir, options, flags):
    return [str(config), '--work-dir', str(work_dir), '--launcher', 'pytorch', *flags, '--cfg-options', *options]


def _run(command, folder):
    os.chdir(folder)
    return main(command)
