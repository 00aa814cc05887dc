"""A loader that keeps its place, handed to the Runner as an object."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader
from toy_runner import Points, make_runner, read_log


class Stream(IterableDataset):
    """Points one after the other, by an iterator with state."""

    def __init__(self, n=12):
        self.points = Points(n)

    def __len__(self):
        return len(self.points)

    def __iter__(self):
        return Reader(self.points)


class Reader:
    def __init__(self, points):
        self.points, self.read = points, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.read == len(self.points):
            raise StopIteration
        self.read += 1
        return self.points[self.read - 1]

    def state_dict(self):
        return {'read': self.read}

    def load_state_dict(self, state):
        self.read = state['read']


class Long(Stream):
    """Its length is too small, as estimates over several workers are."""

    def __len__(self):
        return 8


class Crash(Hook):
    priority = 'LOWEST'

    def __init__(self, iters):
        self.iters = iters

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iters:
            raise ConnectionError('planted')


LOOPS = {'epochs': dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=4, val_interval=99),
         'iterations': dict(type='mmckpt.IterBasedTrainLoop', max_iters=12, val_interval=99)}


def trained(work_dir, loop, stream, kind=StatefulDataLoader, crash=None, resume=False):
    hooks = [dict(type='mmckpt.RNGStateHook')] + ([Crash(crash)] if crash else [])
    runner = make_runner(
        work_dir, itertools.repeat(dict(AP=.5)), hooks, train=kind(stream(), batch_size=4),
        train_cfg=dict(LOOPS[loop]), resume=resume, log_processor=dict(by_epoch=loop == 'epochs'),
        checkpoint=dict(type='mmckpt.CheckpointHook', by_epoch=False, interval=1))
    if crash:
        with pytest.raises(ConnectionError):
            runner.train()
    else:
        runner.train()
    return runner


@pytest.mark.parametrize('stream', [Stream, Long])
@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('crash', [1, 3, 5, 8])
@pytest.mark.filterwarnings('ignore:Length of IterableDataset')
def test_object_goes_on_where_it_was(loop, stream, crash, tmp_path):
    straight = trained(tmp_path / 'straight', loop, stream)
    trained(tmp_path / 'run', loop, stream, crash=crash)
    resumed = trained(tmp_path / 'run', loop, stream, resume=True)
    assert resumed.iter == straight.iter == 12
    expected = straight.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_plain_loader_over_a_stream_is_read_again_and_says_so(tmp_path):
    trained(tmp_path, 'epochs', Stream, kind=DataLoader, crash=5)
    trained(tmp_path, 'epochs', Stream, kind=DataLoader, resume=True)
    assert '2 batches were read again' in read_log(tmp_path)
