"""Real training processes under torchrun."""

import os
import subprocess
import sys

from forked import PROJECT

ROOT = PROJECT.parents[2]


def launch(ranks, config, work_dir, *options, expect=0, torchrun=(), flags=()):
    """Train with ``tools/train.py`` on some gloo ranks and return what all of them printed.

    Args:
        ranks (int): Processes.
        config (Path): The config.
        work_dir (Path): Where the run lives.
        *options (str): For ``--cfg-options``.
        expect (int): 0 if the job must end well, anything else if it must not.
        torchrun (Sequence[str]): Arguments of torchrun.
        flags (Sequence[str]): Arguments of ``train.py``.
    """
    environment = dict(os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1',
                       CUDA_VISIBLE_DEVICES='')
    train = [str(ROOT / 'tools/train.py'), str(config), '--work-dir', str(work_dir), '--launcher', 'pytorch', *flags,
             '--cfg-options', *options]
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}', *torchrun, *train],
        cwd=work_dir.parent, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    assert (done.returncode == 0) == (expect == 0), done.stdout[-6000:]
    return done.stdout
