"""Data without an index: the place is kept by the loader, or found again by reading."""

import random
import sys

import pytest
import torch
from mmengine.registry import DATASETS
from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from mmckpt.data import DeterministicDataset
from mmckpt.data.sequential_entry import SequentialEntry
from mmckpt.data.stateful_loader import built_loader
from mmckpt.state.rng import capture_rng_state


class Numbers(IterableDataset):
    """Nobody knows where it stands; each sample is a number and a draw from the process's stream."""

    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __iter__(self):
        return ((i, random.random()) for i in range(self.size))


class Counter(Numbers):
    """Its iterator knows."""

    def __iter__(self):
        return Counting(self.size)


class Counting:
    def __init__(self, size):
        self.next, self.size = 0, size

    def __iter__(self):
        return self

    def __next__(self):
        if self.next == self.size:
            raise StopIteration
        self.next += 1
        return self.next - 1, random.random()

    def state_dict(self):
        return {'next': self.next}

    def load_state_dict(self, state):
        self.next = state['next']


class TapeLoader:
    """A loader of nobody's class that keeps its place: all that is asked for is the two methods."""

    def __init__(self, dataset):
        self.dataset, self.played = dataset, 0

    def __iter__(self):
        while self.played < len(self.dataset):
            self.played += 1
            yield torch.tensor([self.played - 1]), torch.tensor([random.random()])
        self.played = 0

    def state_dict(self):
        return {'played': self.played}

    def load_state_dict(self, state):
        self.played = state['played']


LOADERS = {
    'plain loader': lambda: DataLoader(Numbers(), batch_size=2),
    'stateful loader, no state in the data': lambda: StatefulDataLoader(Numbers(), batch_size=2),
    'stateful loader, state in the data': lambda: StatefulDataLoader(Counter(), batch_size=2),
    'indexed data': lambda: StatefulDataLoader([(i, 0.) for i in range(10)], batch_size=2),
    'any loader with the two methods': lambda: TapeLoader(range(10)),
    'no batching': lambda: DataLoader(Numbers(5), batch_size=None),
}


def taken(batches, count=100):
    return [[torch.as_tensor(part).flatten().tolist() for part in batch] for _, batch in zip(range(count), batches)]


# Batches between one resume and the next; a pass has 5.
@pytest.mark.parametrize('endless, stops', [
    (False, [2]), (False, [1, 2, 1]), (False, [5]), (True, [2]), (True, [1, 2, 1]), (True, [5]), (True, [3, 4, 6])])
@pytest.mark.parametrize('name', LOADERS)
def test_whatever_was_read_before_a_resume_what_follows_is_the_same(name, endless, stops):
    random.seed(1)
    count = sum(stops) + 4
    whole = taken(SequentialEntry(LOADERS[name](), 0, 0, endless).open(0, 0), count)

    # The process's stream goes on over the resumes, as RNGStateHook makes it.
    random.seed(1)
    parts, place = [], None
    for stop in stops:
        entry = SequentialEntry(LOADERS[name](), 0, 0, endless, place)
        batches = entry.open(0, place['batches'] if place else 0)
        parts += taken(batches, stop)
        place = entry.state()
    entry = SequentialEntry(LOADERS[name](), 0, 0, endless, place)
    parts += taken(entry.open(0, place['batches']), count - len(parts))
    assert parts == whole


def test_only_data_without_state_are_read_again():
    read = {}
    for name, make in LOADERS.items():
        entry = SequentialEntry(make(), 0, 0, False)
        batches = entry.open(0, 0)
        next(batches), next(batches)
        resumed = SequentialEntry(make(), 0, 0, False, entry.state())
        resumed.open(0, 2)
        read[name] = resumed.reread
    assert read == dict.fromkeys(['plain loader', 'stateful loader, no state in the data', 'no batching'], 2) | (
        dict.fromkeys(['stateful loader, state in the data', 'indexed data', 'any loader with the two methods'], 0))


def test_a_finished_pass_is_followed_by_a_whole_one():
    entry = SequentialEntry(LOADERS['stateful loader, state in the data'](), 0, 0, False)
    first = taken(entry.open(0, 0))
    resumed = SequentialEntry(LOADERS['stateful loader, state in the data'](), 0, 0, False, entry.state())
    assert [b[0] for b in taken(resumed.open(1, 0))] == [b[0] for b in first] and len(first) == 5


def test_workers_draw_something_else_in_every_pass_and_on_every_rank():
    def draws(seed, epoch, rank):
        loader = DataLoader(Numbers(2), batch_size=None, num_workers=1)
        return taken(SequentialEntry(loader, seed, rank, False).open(epoch, 0))

    assert draws(0, 0, 0) == draws(0, 0, 0)
    others = [draws(0, 0, 0), draws(0, 1, 0), draws(0, 0, 1), draws(1, 0, 0)]
    assert all(a != b for i, a in enumerate(others) for b in others[:i])


def test_opening_leaves_no_trace_in_the_training_streams():
    before = capture_rng_state()['torch']
    SequentialEntry(DataLoader(Numbers(), batch_size=2), 0, 0, True).open(0, 13)
    assert torch.equal(capture_rng_state()['torch'], before)


class Unreadable(Counter):
    def state_dict(self):
        return {'since': capture_rng_state}

    def load_state_dict(self, state):
        raise NotImplementedError


def test_state_that_could_not_be_read_back_is_refused_before_training():
    entry = SequentialEntry(StatefulDataLoader(Unreadable(), batch_size=2), 0, 0, False)
    with pytest.raises(ValueError, match='StatefulDataLoader over Unreadable.*numbers, strings'):
        entry.open(0, 0)


def test_data_that_yield_nothing_end_in_an_error_not_in_a_hang():
    entry = SequentialEntry(DataLoader(Numbers(0), batch_size=2), 0, 0, True)
    with pytest.raises(RuntimeError, match='Pass 1 .* no batch'):
        next(entry.open(0, 0))


def test_augmentation_by_position_needs_an_index():
    with pytest.raises(ValueError, match="IterableDataset.*StatefulDataLoader"):
        DeterministicDataset(Numbers())


DATASETS.register_module(name='StreamOfNumbers', module=Numbers, force=True)
DATASETS.register_module(name='ListOfNumbers', module=lambda size: list(range(size)), force=True)


def test_config_builds_torchdatas_loader_with_mmengines_keys():
    loader = built_loader(dict(
        type='StatefulDataLoader', dataset=dict(type='StreamOfNumbers', size=7), batch_size=3, drop_last=True,
        num_workers=2, prefetch_factor=4, persistent_workers=True, snapshot_every_n_steps=5,
        collate_fn=dict(type='default_collate')), seed=3)
    assert isinstance(loader, StatefulDataLoader) and len(loader.dataset) == 7
    assert (loader.batch_size, loader.drop_last, loader.num_workers, loader.prefetch_factor) == (3, True, 2, 4)
    assert loader.persistent_workers and loader.snapshot_every_n_steps == 5
    # MMEngine's would seed the workers alike in every pass.
    assert loader.worker_init_fn is None
    with_init = built_loader(dict(type=StatefulDataLoader, dataset=dict(type='StreamOfNumbers'), num_workers=0,
                                  worker_init_fn=dict(type=print)), seed=3)
    assert with_init.worker_init_fn.func is print


@pytest.mark.parametrize('batching', [
    dict(batch_size=3, drop_last=True),
    dict(batch_size=None, collate_fn=dict(type=int)),
    dict(batch_size=3, batch_sampler=dict(type=BatchSampler, drop_last=True)),
])
def test_config_keeps_sampler_and_batch_sampler(batching):
    dataset, sampler = dict(type='ListOfNumbers', size=8), dict(type='DefaultSampler', shuffle=True, seed=4)
    loader = built_loader(dict(type='StatefulDataLoader', num_workers=0, dataset=dataset, sampler=sampler,
                               **batching), seed=3)
    stock = built_loader(dict(num_workers=0), seed=3)
    assert stock == dict(num_workers=0)
    order = list(getattr(loader.batch_sampler, 'sampler', loader.sampler))
    assert type(loader.sampler).__name__ == ('SequentialSampler' if 'batch_sampler' in batching else 'DefaultSampler')
    assert sorted(order) == list(range(8)) and order != list(range(8))
    assert [list(b) if isinstance(b, list) else b for b in loader] == (
        order if batching['batch_size'] is None else [order[:3], order[3:6]])


def test_another_loader_type_is_refused():
    with pytest.raises(ValueError, match="expected 'StatefulDataLoader' .* got 'FastLoader'"):
        built_loader(dict(type='FastLoader', dataset=dict(type='StreamOfNumbers')), seed=0)


def test_missing_torchdata_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchdata.stateful_dataloader', None)
    with pytest.raises(ImportError, match=r"pip install 'mmckpt\[torchdata\]'"):
        built_loader(dict(type='StatefulDataLoader', dataset=dict(type='StreamOfNumbers'), num_workers=0), seed=0)
