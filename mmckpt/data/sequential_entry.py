"""Data that can only be read in sequence, entered where a checkpoint was made."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mmckpt.data.position import mix
from mmckpt.state.rng import isolated_streams


class SequentialEntry:
    """Opens the iterator of a loader whose data have no index, and knows its place.

    A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's
    ``StatefulDataLoader``, keeps the place itself. With any other loader, and
    with a data set that neither has state nor an iterator with state, the
    batches of the pass are read again up to the place; what that draws from
    the random streams of this process is undone.

    Args:
        dataloader (DataLoader): The training loader.
        seed (int): Seed of the run.
        rank (int): This rank.
        endless (bool): Whether passes follow one another without an end.
        place (dict, optional): What :meth:`state` returned when the checkpoint
            was made. Defaults to None, no resume.

    Example:
        >>> entry = SequentialEntry(DataLoader(range(6), batch_size=2), seed=0, rank=0, endless=True)
        >>> batches = entry.open(epoch=0, batches=4)
        >>> next(batches)
        tensor([2, 3])
        >>> entry.state()
        {'epoch': 1, 'batches': 2, 'finished': False, 'loader': None}
    """

    def __init__(self, dataloader: Any, seed: int, rank: int, endless: bool, place: dict | None = None) -> None:
        self.dataloader = dataloader
        self.seed, self.rank, self.endless = seed, rank, endless
        self.reread = 0
        self._place = place
        self._epoch = self._batches = 0
        self._finished = False

    def open(self, epoch: int, batches: int) -> Iterator[Any]:
        """Return an iterator over what follows.

        Args:
            epoch (int): The pass.
            batches (int): Batches of that pass that are done. Both hold only
                where there was no place to go on from; an endless entry counts
                batches since the start of the run then.
        """
        place, self._place = self._place, None
        self._epoch, self._batches, self._finished = epoch, 0, False
        if place is not None and self.endless:
            self._epoch, batches = place['epoch'], place['batches']
        iterator = self._begin(place)
        self._check_readable()
        if place is None or place['loader'] is None:
            self.reread = batches
            return self._skipped(iterator, batches)
        self._batches = batches
        return self._counted(iterator)

    def state(self) -> dict[str, Any]:
        """Return the place in plain types: the pass, batches of it that are done, the loader's own state."""
        return {'epoch': self._epoch, 'batches': self._batches, 'finished': self._finished,
                'loader': self._loader_state()}

    def _begin(self, place: dict | None) -> Iterator[Any]:
        """Open the loader's iterator for the pass at hand, with a base seed that leaves no trace."""
        if isinstance(self.dataloader, DataLoader):
            self.dataloader.generator = torch.Generator().manual_seed(mix(self.seed, self._epoch, self.rank) >> 1)
        batch_sampler = getattr(self.dataloader, 'batch_sampler', None)
        for part in (getattr(self.dataloader, 'sampler', None), batch_sampler, getattr(batch_sampler, 'sampler', None)):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(self._epoch)
        if place is not None and place['loader'] is not None:
            self.dataloader.load_state_dict(place['loader'])
            # To find its place a loader may read samples, which the uninterrupted run did not.
            with isolated_streams():
                return iter(self.dataloader)
        return iter(self.dataloader)

    def _skipped(self, iterator: Iterator[Any], batches: int) -> Iterator[Any]:
        data = self._counted(iterator)
        with isolated_streams():
            for _ in range(batches):
                next(data, None)
        return data

    def _counted(self, iterator: Iterator[Any]) -> Iterator[Any]:
        while True:
            for batch in iterator:
                self._batches += 1
                yield batch
            self._finished = True
            if not self.endless:
                return
            if not self._batches:
                raise RuntimeError(
                    f'Pass {self._epoch + 1} over the training data yields no batch: the data set is empty, too '
                    'small for drop_last, or can be read only once (its __iter__ must start anew).')
            self._epoch, self._batches, self._finished = self._epoch + 1, 0, False
            iterator = self._begin(None)

    def _loader_state(self) -> Any:
        if not is_stateful(self.dataloader):
            return None
        state = self.dataloader.state_dict()
        # torchdata 0.11 reads again for such data, but counts what it reads twice: the second resume within
        # a pass would end elsewhere.
        if isinstance(self.dataloader.dataset, IterableDataset) and _is_known_stateless(state):
            return None
        return state

    def _check_readable(self) -> None:
        """Refuse at the start what could not be read back: a checkpoint holds plain types and tensors."""
        file = io.BytesIO()
        try:
            torch.save(self._loader_state(), file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:
            raise ValueError(
                f'The state of the training loader ({type(self.dataloader).__name__} over '
                f'{type(self.dataloader.dataset).__name__}) could not be read back from a checkpoint: let '
                'state_dict() return numbers, strings, lists, dicts and tensors only.') from error


def is_stateful(dataloader: Any) -> bool:
    """Whether a loader keeps its own place, as torchdata's ``StatefulDataLoader`` does."""
    return hasattr(dataloader, 'state_dict') and hasattr(dataloader, 'load_state_dict')


def _is_known_stateless(state: Any) -> bool:
    kept = list(_values_of(state, ('dataset_state', 'dataset_iter_state')))
    return bool(kept) and all(value is None for value in kept)


def _values_of(tree: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in keys:
                yield value
            else:
                yield from _values_of(value, keys)
