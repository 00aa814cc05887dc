"""Sharded state that 2 ranks wrote is read by 1 and by 2, to the bit, and never half."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError
from mmckpt.state.sharded import load_sharded, save_sharded
from mmckpt.store import directories

DRIVER = Path(__file__).with_name('sharded_driver.py')
ROOT = DRIVER.parents[2]


def run(ranks, *arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    launcher = [] if ranks == 0 else [
        '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}']
    done = subprocess.run([sys.executable, '-W', 'ignore', *launcher, str(DRIVER), *map(str, arguments)],
                          env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.cpu.Stream, 'record_event'), reason='fully_shard of this torch needs a GPU')
@pytest.mark.parametrize('job', ['write', 'write_async'])
def test_what_two_ranks_wrote_is_read_by_two_and_by_one(job, tmp_path):
    run(2, job, tmp_path / 'step_1', tmp_path / 'written.pt')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['step_1', 'written.pt']
    run(2, 'read', tmp_path / 'step_1', tmp_path / 'two.pt')
    run(0, 'read_alone', tmp_path / 'step_1', tmp_path / 'one.pt')
    written = torch.load(tmp_path / 'written.pt')
    assert any(name.endswith('exp_avg') for name in written)
    for reader in ('two', 'one'):
        found = torch.load(tmp_path / f'{reader}.pt')
        assert found.keys() == written.keys()
        assert all(torch.equal(found[name], written[name]) for name in written)


def small():
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def test_there_is_no_checkpoint_before_it_is_whole(tmp_path):
    model, optimizer = small()
    pending = save_sharded(tmp_path / 'step_1', model, optimizer)
    with pytest.raises(CheckpointNotFoundError, match='which is written last'):
        load_sharded(tmp_path / 'step_1', model, optimizer)
    pending.wait()
    load_sharded(tmp_path / 'step_1', model, optimizer)


def test_an_older_one_of_the_same_name_stays_until_the_new_one_is_whole(tmp_path):
    model, optimizer = small()
    save_sharded(tmp_path / 'step_1', model, optimizer).wait()
    before = model.weight.detach().clone()
    torch.nn.init.zeros_(model.weight)
    pending = save_sharded(tmp_path / 'step_1', model, optimizer)
    load_sharded(tmp_path / 'step_1', model, optimizer)
    assert torch.equal(model.weight, before)
    pending.wait()
    load_sharded(tmp_path / 'step_1', model, optimizer)
    assert not model.weight.any() and [path.name for path in tmp_path.iterdir()] == ['step_1']


@pytest.mark.parametrize('follow', ['load', 'save'])
def test_a_kill_between_the_old_name_and_the_new_one_loses_neither(tmp_path, follow):
    model, optimizer = small()
    save_sharded(tmp_path / 'step_1', model, optimizer).wait()
    torch.nn.init.zeros_(model.weight)
    child = os.fork()
    if child == 0:
        # A file system that cannot exchange two names, and a process that dies between the two renames.
        rename, done = os.rename, []

        def dies_at_the_second(source, target):
            if done:
                os._exit(9)
            done.append(rename(source, target))

        directories.exchange = lambda first, second: False
        pending = save_sharded(tmp_path / 'step_1', model, optimizer)
        os.rename = dies_at_the_second
        pending.wait()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / 'step_1').exists()
    torch.nn.init.ones_(model.weight)
    if follow == 'save':
        # It has begun, and is not whole: the checkpoint is that of before.
        save_sharded(tmp_path / 'step_1', model, optimizer)
    load_sharded(tmp_path / 'step_1', model, optimizer)
    assert not model.weight.any()


def test_a_rotten_shard_is_not_loaded(tmp_path):
    model, optimizer = small()
    checkpoint = save_sharded(tmp_path / 'step_1', model, optimizer).wait()
    shard = next(checkpoint.glob('*.distcp'))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match=f'{shard.name} has the digest'):
        load_sharded(checkpoint, model, optimizer)
