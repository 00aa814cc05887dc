"""DeepSpeed itself on two CPU ranks: what its ranks write as a directory is one checkpoint, and resumes to the bit.

MMEngine 0.10.7 needs a DeepSpeed that has ``deepspeed.runtime.fp16.onebit``, such as 0.17.6; without one this skips.
ZeRO 3 saves and resumes as well, but two undisturbed runs of it differ in their bits already.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmckpt.state.digest import digest
from mmckpt.store import CheckpointStore

pytestmark = pytest.mark.slow
pytest.importorskip('deepspeed.runtime.fp16.onebit', reason='needs a DeepSpeed that MMEngine can use')

DRIVER = Path(__file__).with_name('deepspeed_driver.py')


def train(work_dir, stage, *how, expect=0):
    environment = dict(os.environ, PYTHONPATH=str(DRIVER.parents[2]), OMP_NUM_THREADS='1')
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', str(DRIVER),
         str(work_dir), str(stage), *how], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=400)
    assert (done.returncode == 0) == (expect == 0), done.stdout[-6000:]
    return done.stdout


def tensors_of(directory):
    """Digests of all tensors in DeepSpeed's files, which also hold clock times."""
    return {path.name: digest(list(leaves(torch.load(path, weights_only=False))))
            for path in sorted(directory.glob('*.pt'))}


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (dict, list, tuple)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(item)


@pytest.mark.parametrize('stage', [1, 2])
def test_a_killed_training_resumes_to_the_bit(stage, tmp_path):
    train(tmp_path / 'whole', stage)
    train(tmp_path / 'run', stage, '29', expect=1)
    out = train(tmp_path / 'run', stage, 'resume')
    assert f'Resumed from {tmp_path}/run/epoch_3.pth' in out
    whole, resumed = (tensors_of(tmp_path / name / 'epoch_5.pth') for name in ('whole', 'run'))
    assert len(whole) >= 3 and whole == resumed
    view = CheckpointStore.read(tmp_path / 'run')
    assert {r.name for r in view.records()} == {'epoch_4.pth', 'epoch_5.pth', view.best('loss').name}
    assert not any(view.verify(record) for record in view.records())
