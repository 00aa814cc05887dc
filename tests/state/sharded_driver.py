"""One rank of a job that trains under ``fully_shard``: ``python sharded_driver.py write|read DIRECTORY OUT``."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mmckpt.hooks.runner_adapter import leave_group
from mmckpt.state.sharded import load_sharded, save_sharded


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


def main(job, directory, out):
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
    if shard:
        leave_group()
        # torch 2.13 aborts now and then when an interpreter ends after gloo.
        os._exit(0)


if __name__ == '__main__':
    main(*sys.argv[1:])
