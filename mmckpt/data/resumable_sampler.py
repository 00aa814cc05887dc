"""A sampler that can be entered at any position, on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmckpt.data.position import PositionedIndex, mix
from mmckpt.registry import DATA_SAMPLERS
from mmckpt.state.rng import isolated_streams, seed_streams


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Draws the samples of an epoch in an order that depends on seed and epoch only.

    Rank ``r`` of ``w`` takes positions ``r``, ``r + w``, ... of that order, so
    one global batch holds the same samples on any number of ranks. A resume
    enters the order at an offset without replaying what came before: the loop
    calls :meth:`start_at`. Each index carries its position, from which
    :class:`mmckpt.DeterministicDataset` seeds the augmentation of the sample.

    The order equals that of MMEngine's ``DefaultSampler`` with the same seed.

    Args:
        dataset (Sized): The data set.
        shuffle (bool): Whether to shuffle. Defaults to True.
        seed (int, optional): Seed of the order, equal on all ranks; drawn and
            shared if None. Defaults to None.
        round_up (bool): Whether to repeat samples so that every rank gets
            equally many (finite only). Defaults to True.
        infinite (bool): Whether passes follow one another without an end, as
            iteration-based loops want it. Defaults to False.
        sampler (dict or Sampler, optional): A sampler that the order of this
            rank comes from instead (class-balanced, multi-source); it must be
            finite, and its draws are made a function of seed and epoch.
            Defaults to None.

    Example:
        >>> sampler = ResumableSampler(range(10), seed=0)
        >>> whole = [int(i) for i in sampler]
        >>> sampler.start_at(4)
        >>> [int(i) for i in sampler] == whole[4:]
        True
        >>> [int(i) for i in sampler] == whole  # an offset holds for one pass
        True
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True,
                 infinite: bool = False, sampler: Any = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.round_up = round_up
        self.infinite = infinite
        self.epoch = 0
        self._start = 0
        self.inner = DATA_SAMPLERS.build(
            sampler, default_args={'dataset': dataset, 'seed': self.seed}) if isinstance(sampler, dict) else sampler
        if self.inner is not None and infinite:
            raise ValueError('ResumableSampler(infinite=True) makes its own order: leave out sampler=, or wrap a '
                             'finite sampler with infinite=False and let the loop begin a new pass at its end.')

    def __len__(self) -> int:
        """Samples of this rank in a whole pass, whatever the offset."""
        if self.inner is not None:
            return len(self.inner)
        size = len(self.dataset)
        if self.round_up or self.infinite:
            return math.ceil(size / self.world_size)
        return math.ceil((size - self.rank) / self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass; the offset of a resume stays."""
        self.epoch = epoch

    def start_at(self, consumed: int) -> None:
        """Let the next iteration begin later in the order.

        Args:
            consumed (int): Samples that the whole job has consumed: of this
                epoch, or since the start of the run if ``infinite``.
        """
        self._start = consumed

    def __iter__(self) -> Iterator[PositionedIndex]:
        start, self._start = self._start, 0
        if self.inner is not None:
            return self._inner_order(start)
        return self._endless_order(start) if self.infinite else self._finite_order(start)

    def _order(self, epoch: int) -> list[int]:
        size = len(self.dataset)
        if not self.shuffle:
            return list(range(size))
        generator = torch.Generator()
        generator.manual_seed(mix(self.seed, epoch) if self.infinite else self.seed + epoch)
        return torch.randperm(size, generator=generator).tolist()

    def _finite_order(self, start: int) -> Iterator[PositionedIndex]:
        order = self._order(self.epoch)
        total = len(self) * self.world_size if self.round_up else len(order)
        for position in range(start + self.rank, total, self.world_size):
            yield PositionedIndex(order[position % len(order)], self.epoch, position)

    def _endless_order(self, start: int) -> Iterator[PositionedIndex]:
        size, epoch, order = len(self.dataset), -1, []
        position = start + self.rank
        while True:
            if position // size != epoch:
                epoch = position // size
                order = self._order(epoch)
            yield PositionedIndex(order[position % size], epoch, position % size)
            position += self.world_size

    def _inner_order(self, start: int) -> Iterator[PositionedIndex]:
        if hasattr(self.inner, 'set_epoch'):
            self.inner.set_epoch(self.epoch)
        with isolated_streams():
            seed_streams(mix(self.seed, self.epoch))
            order = list(self.inner)
        for i, index in islice(enumerate(order), start // self.world_size, None):
            yield PositionedIndex(index, self.epoch, i * self.world_size + self.rank)
