"""Order and augmentation depend on seed, epoch and position only, and can be entered anywhere."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from mmckpt.data import DeterministicDataset, PositionedIndex, ResumableSampler
from mmckpt.data.resumable_batches import DataEntry
from mmckpt.state.rng import capture_rng_state


class Draws(Dataset):
    """A sample is its index and a draw of each stream."""

    def __init__(self, size=23):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


def sampler_of(rank, world_size, **kwargs):
    sampler = ResumableSampler(range(kwargs.pop('size', 23)), seed=5, **kwargs)
    sampler.rank, sampler.world_size = rank, world_size
    return sampler


def global_batches(world_size, batch_size, consumed=0, take=None, **kwargs):
    """Sets of samples of each global batch, over all ranks."""
    parts = []
    for rank in range(world_size):
        sampler = sampler_of(rank, world_size, **kwargs)
        sampler.start_at(consumed)
        batches = iter(BatchSampler(sampler, batch_size, drop_last=False))
        parts.append([next(batches) for _ in range(take)] if take else list(batches))
    return [sorted(int(i) for part in parts if n < len(part) for i in part[n]) for n in range(len(parts[0]))]


def test_order_is_that_of_mmengines_default_sampler():
    ours, stock = ResumableSampler(range(40), seed=9), DefaultSampler(range(40), seed=9)
    for epoch in (0, 1, 7):
        ours.set_epoch(epoch), stock.set_epoch(epoch)
        assert [int(i) for i in ours] == list(stock)


@pytest.mark.parametrize('infinite', [False, True])
def test_global_batches_are_equal_on_any_number_of_ranks(infinite):
    options = dict(infinite=infinite, take=9 if infinite else None, size=24)
    one = global_batches(1, 8, **options)
    assert one == global_batches(2, 4, **options) == global_batches(4, 2, **options)
    assert one[2:] == global_batches(2, 4, consumed=16, **{**options, 'take': 7 if infinite else None})


def test_uneven_data_is_rounded_up_for_every_rank():
    lengths = [len(list(sampler_of(rank, 4))) for rank in range(4)]
    assert lengths == [6, 6, 6, 6] and len(sampler_of(0, 4)) == 6
    assert [len(list(sampler_of(rank, 4, round_up=False))) for rank in range(4)] == [6, 6, 6, 5]


def test_offset_survives_set_epoch_and_holds_once():
    sampler = sampler_of(0, 1)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.start_at(10)
    sampler.set_epoch(3)
    assert list(sampler) == whole[10:] and list(sampler) == whole and len(sampler) == 23


def test_infinite_order_enters_a_later_pass_without_replay():
    def first(start, count):
        sampler = sampler_of(0, 1, infinite=True)
        sampler.start_at(start)
        iterator = iter(sampler)
        return [(int(i), i.epoch, i.position) for i in (next(iterator) for _ in range(count))]

    assert first(0, 100)[60:] == first(60, 40)
    far = first(23 * 10**9 + 5, 2)
    assert far[0][1:] == (10**9, 5)


def test_wrapped_sampler_becomes_a_function_of_seed_and_epoch():
    def order(epoch, start=0):
        torch.manual_seed(random.randrange(2**31))  # what training draws must not matter
        sampler = ResumableSampler(range(50), seed=1, sampler=WeightedRandomSampler([1.] * 50, 50))
        sampler.set_epoch(epoch)
        sampler.start_at(start)
        return [int(i) for i in sampler]

    assert order(2) == order(2) != order(3)
    assert order(2, 20) == order(2)[20:]


def test_infinite_with_a_wrapped_sampler_is_refused():
    with pytest.raises(ValueError, match='infinite=False'):
        ResumableSampler(range(5), seed=0, infinite=True, sampler=RandomSampler(range(5)))


def test_index_keeps_its_place_through_pickle_and_copy():
    index = PositionedIndex(4, epoch=2, position=9)
    for twin in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert (twin, twin.epoch, twin.position) == (4, 2, 9)
    assert [10, 20, 30, 40, 50][index] == 50


def batches_of(sampler, *, workers=0, persistent=False, epoch=0, start=0, endless=False, take=None, epochs=1,
               drop_last=False, batch_sampler=None):
    dataset = DeterministicDataset(Draws(), seed=3)
    how = dict(batch_sampler=batch_sampler(sampler)) if batch_sampler else dict(
        sampler=sampler, batch_size=4, drop_last=drop_last)
    loader = DataLoader(dataset, num_workers=workers, persistent_workers=persistent, **how)
    entry = DataEntry(loader, seed=7, rank=0, world_size=1, endless=endless)
    got = []
    for e in range(epoch, epoch + epochs):
        iterator = entry.open(e, start if e == epoch else 0)
        got += [next(iterator) for _ in range(take)] if take else list(iterator)
    return got


def assert_equal(left, right):
    assert len(left) == len(right)
    assert all(torch.equal(a, b) for a, b in zip(left, right))


def new_sampler(kind):
    return {'resumable': lambda: ResumableSampler(range(23), seed=3),
            'default': lambda: DefaultSampler(range(23), seed=3),
            'torch random': lambda: RandomSampler(range(23)),
            'weighted': lambda: WeightedRandomSampler([1.] * 23, 23)}[kind]()


@pytest.mark.parametrize('kind', ['resumable', 'default', 'torch random', 'weighted'])
def test_an_epoch_entered_in_the_middle_goes_on_identically(kind):
    whole = batches_of(new_sampler(kind), epoch=1, epochs=2)
    torch.manual_seed(123), np.random.seed(1)
    assert_equal(batches_of(new_sampler(kind), epoch=1, start=4, epochs=2), whole[4:])


@pytest.mark.parametrize('workers, persistent', [(1, False), (2, False), (2, True)])
def test_samples_do_not_depend_on_workers(workers, persistent):
    expected = batches_of(new_sampler('resumable'), epochs=2)
    assert_equal(batches_of(new_sampler('resumable'), workers=workers, persistent=persistent, epochs=2), expected)
    assert_equal(batches_of(new_sampler('resumable'), workers=workers, persistent=persistent, epochs=2, start=3),
                 expected[3:])


@pytest.mark.parametrize('make', [
    lambda: ResumableSampler(range(23), seed=3), lambda: ResumableSampler(range(23), seed=3, infinite=True),
    lambda: DefaultSampler(range(23), seed=3), lambda: InfiniteSampler(range(23), seed=3),
    lambda: RandomSampler(range(23))])
def test_an_endless_order_entered_anywhere_goes_on_identically(make):
    whole = batches_of(make(), endless=True, take=30)
    for start in (3, 6, 7, 20):
        assert_equal(batches_of(make(), endless=True, start=start, take=5), whole[start:start + 5])


class ByParity(BatchSampler):
    """Batches of even or of odd indices: it buffers, so a sampler's offset says nothing."""

    def __init__(self, sampler):
        super().__init__(sampler, 3, drop_last=False)

    def __iter__(self):
        buckets = ([], [])
        for index in self.sampler:
            buckets[index % 2].append(index)
            if len(buckets[index % 2]) == 3:
                yield list(buckets[index % 2])
                buckets[index % 2].clear()
        yield from (b for b in buckets if b)


@pytest.mark.parametrize('kind', ['resumable', 'default'])
def test_a_batch_sampler_with_buckets_is_advanced_on_indices(kind):
    whole = batches_of(new_sampler(kind), batch_sampler=ByParity)
    assert_equal(batches_of(new_sampler(kind), batch_sampler=ByParity, start=5), whole[5:])


def test_reading_leaves_the_training_streams_alone():
    np.random.randn(), random.gauss(0, 1)  # half-used Gaussian pairs are part of the streams
    before = capture_rng_state()
    batches_of(new_sampler('weighted'))
    dataset = DeterministicDataset(Draws(), seed=3)
    assert torch.equal(dataset[2], dataset[2])
    after = capture_rng_state()
    assert torch.equal(before['torch'], after['torch'])
    assert before['python']['gauss_next'] == after['python']['gauss_next']
    assert torch.equal(before['python']['internal'], after['python']['internal'])
    assert torch.equal(before['numpy']['state']['key']['bits'], after['numpy']['state']['key']['bits'])
    assert before['numpy']['has_gauss'] == after['numpy']['has_gauss'] == 1


class Numbers(BaseDataset):
    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self):
        return [dict(value=i) for i in range(6)]


def test_wrapper_keeps_mmengines_interface_reachable():
    wrapped = DeterministicDataset(dict(type=Numbers, lazy_init=True), seed=1)
    wrapped.full_init()
    assert len(wrapped) == 6 and wrapped.metainfo['classes'] == ('a', 'b')
    assert wrapped.get_data_info(3)['value'] == 3
    wrapped.pipeline, wrapped.seed = 'new', 5
    assert wrapped.dataset.pipeline == 'new' and wrapped.__dict__['seed'] == 5 and 'pipeline' not in wrapped.__dict__
    with pytest.raises(AttributeError, match='no_such'):
        _ = wrapped.no_such
    assert len(pickle.loads(pickle.dumps(DeterministicDataset(Draws())))) == 23
