"""Scripts that run on two gloo ranks."""

import os
import subprocess
import sys
from pathlib import Path


def run_on_two_ranks(script, folder):
    """Run a script under torchrun; it gets the folder as its argument, and must end well on both ranks.

    Args:
        script (str): Its text; ``{tests}`` becomes the folder of these tests.
        folder (Path): Where it is written to.
    """
    path = folder / 'run.py'
    path.write_text(script.format(tests=str(Path(__file__).parent)))
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([*launch, str(path), str(folder)], env=environment, text=True, timeout=200,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-4000:]
