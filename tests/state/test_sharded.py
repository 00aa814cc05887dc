"""Sharded state that 2 ranks wrote is read by 1 and by 2, to the bit, and never half."""

import os

import pytest
import torch
import torch.distributed as dist
from forked import fork_ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError
from mmckpt.state.sharded import load_sharded, save_sharded
from mmckpt.store import directories


def build(seed, shard):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    if shard:
        fully_shard(model, mesh=init_device_mesh('cpu', (dist.get_world_size(),)))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model, optimizer):
    torch.manual_seed(1)
    model(torch.randn(4, 6)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def whole(model, optimizer):
    """All weights and moments, gathered, by a name that does not depend on the number of ranks."""
    def full(tensor):
        return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
    found = {name: full(p) for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        found.update({f'{name}.{key}': full(v) for key, v in optimizer.state[p].items()})
    return found


def work(job, directory, out):
    """One rank of a job that trains under ``fully_shard``."""
    shard = job != 'read_alone'
    if shard:
        dist.init_process_group('gloo')
    model, optimizer = build(0 if job.startswith('write') else 9, shard)
    if job.startswith('write'):
        step(model, optimizer)
        expected = whole(model, optimizer)
        pending = save_sharded(directory, model, optimizer, dict(epoch=3), async_save=job == 'write_async')
        # What training does now must not reach the files, nor must its exchange meet that of the writing threads.
        if job == 'write_async':
            for _ in range(20):
                step(model, optimizer)
        pending.wait()
    else:
        assert load_sharded(directory, model, optimizer, dict(epoch=0)) == dict(epoch=3)
        expected = whole(model, optimizer)
    if not shard or dist.get_rank() == 0:
        torch.save(expected, out)


@pytest.mark.skipif(not hasattr(torch.cpu.Stream, 'record_event'), reason='fully_shard of this torch needs a GPU')
@pytest.mark.parametrize('job', ['write', 'write_async'])
def test_what_two_ranks_wrote_is_read_by_two_and_by_one(job, tmp_path):
    fork_ranks(2, work, job, tmp_path / 'step_1', tmp_path / 'written.pt', out=tmp_path / 'ranks.out')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['ranks.out', 'step_1', 'written.pt']
    fork_ranks(2, work, 'read', tmp_path / 'step_1', tmp_path / 'two.pt', out=tmp_path / 'ranks.out')
    work('read_alone', tmp_path / 'step_1', tmp_path / 'one.pt')
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
