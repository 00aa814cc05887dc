"""The batches of a DataLoader, entered anywhere without reading what came before."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mmckpt.data.position import PositionedIndex, mix
from mmckpt.data.resumable_sampler import ResumableSampler
from mmckpt.state.rng import SideStreams


class ResumableBatches:
    """Stands in for a DataLoader's batch sampler and lets a pass begin at any batch.

    With :class:`ResumableSampler` in PyTorch's own ``BatchSampler`` the entry
    is O(1). Any other sampler or batch sampler is advanced on the level of
    indices: no sample is read, and what it draws comes from streams of its
    own, seeded by seed and pass, so that neither training nor prefetching
    changes its order. Indices that carry no position get one.

    Args:
        batch_sampler (Iterable): Yields lists of indices.
        seed (int): Seed of the run.
        batch_size (int): Samples in a full batch of this rank.
        rank (int): This rank.
        world_size (int): Number of ranks.
        endless (bool): Whether a pass begins anew at its end.
    """

    def __init__(self, batch_sampler: Any, seed: int, batch_size: int, rank: int, world_size: int,
                 endless: bool) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.endless = endless
        self._entry = (0, 0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        """Batches of a whole pass, whatever the entry."""
        return len(self.batch_sampler)

    def enter(self, epoch: int, batches: int) -> None:
        """Let iterations begin after ``batches`` batches of pass ``epoch``."""
        self._entry = (epoch, batches)

    def __iter__(self) -> Iterator[list[int]]:
        # Kept, not consumed: a loader with workers opens its index iterator twice.
        epoch, start = self._entry
        sampler = getattr(self.batch_sampler, 'sampler', None)
        if type(self.batch_sampler) is BatchSampler and isinstance(sampler, ResumableSampler):
            return self._direct(sampler, epoch, start)
        return self._advanced(sampler, epoch, start)

    def _direct(self, sampler: ResumableSampler, epoch: int, start: int) -> Iterator[list[int]]:
        if not sampler.infinite:
            epoch, start = epoch + start // len(self) if self.endless else epoch, start % len(self)
        while True:
            sampler.set_epoch(epoch)
            sampler.start_at(start * self.batch_size * self.world_size)
            yield from self.batch_sampler
            if not self.endless:
                return
            epoch, start = epoch + 1, 0

    def _advanced(self, sampler: Any, epoch: int, start: int) -> Iterator[list[int]]:
        for number, (pass_, batch) in islice(enumerate(self._foreign(sampler, epoch)), start, None):
            base = number * self.batch_size * self.world_size + self.rank
            yield [self._positioned(index, pass_, base + i * self.world_size) for i, index in enumerate(batch)]

    def _foreign(self, sampler: Any, epoch: int) -> Iterator[tuple[int, list[Any]]]:
        while True:
            streams = SideStreams(mix(self.seed, epoch))
            for part in (sampler, self.batch_sampler):
                if hasattr(part, 'set_epoch'):
                    part.set_epoch(epoch)
            with streams:
                batches = iter(self.batch_sampler)
            while True:
                with streams:
                    batch = next(batches, None)
                if batch is None:
                    break
                yield epoch, batch
            if not self.endless:
                return
            epoch += 1

    @staticmethod
    def _positioned(index: Any, epoch: int, position: int) -> Any:
        if isinstance(index, PositionedIndex) or not isinstance(index, int):
            return index
        return PositionedIndex(index, epoch, position)


class DataEntry:
    """Opens the iterator of a DataLoader over indexed data at any batch of any pass.

    The iterator's base seed comes from a generator seeded by seed, pass and
    rank, so that opening one leaves no trace in the training streams.

    Args:
        dataloader (DataLoader): The training loader; it must batch indices.
        seed (int): Seed of the run.
        rank (int): This rank.
        world_size (int): Number of ranks.
        endless (bool): Whether passes follow one another without an end.
    """

    def __init__(self, dataloader: DataLoader, seed: int, rank: int, world_size: int, endless: bool) -> None:
        self.dataloader = dataloader
        self.seed, self.rank = seed, rank
        batch_size = getattr(dataloader.batch_sampler, 'batch_size', None) or 1
        self._batches = ResumableBatches(dataloader.batch_sampler, seed, batch_size, rank, world_size, endless)
        # DataLoader forbids this assignment since its length and its iterator may have been
        # taken already; here neither has, and the stand-in has the same length.
        object.__setattr__(dataloader, 'batch_sampler', self._batches)

    def open(self, epoch: int, batches: int) -> Iterator[Any]:
        """Return the loader's iterator, after ``batches`` batches of pass ``epoch``."""
        if not self._batches.endless and batches >= len(self._batches):
            return iter(())
        self.dataloader.generator = torch.Generator().manual_seed(mix(self.seed, epoch, self.rank) >> 1)
        self._batches.enter(epoch, batches)
        return iter(self.dataloader)


def is_indexed(dataloader: Any) -> bool:
    """Whether a loader hands lists of indices to its data set."""
    return (getattr(dataloader, 'batch_sampler', None) is not None
            and not isinstance(dataloader.dataset, IterableDataset))
