"""Train loops that go on exactly where a checkpoint was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmckpt.data import DeterministicDataset
from mmckpt.data.resumable_batches import DataEntry, is_indexed
from mmckpt.data.sequential_entry import SequentialEntry, is_stateful
from mmckpt.data.stateful_loader import built_loader
from mmckpt.registry import LOOPS


class _KnowsItsPlace:
    """The part of both loops that opens the data, keeps and takes back the place in them, and can go back."""

    _entry: DataEntry | SequentialEntry | None = None
    _place: dict[str, Any] | None = None
    _restore: Callable[[], None] | None = None

    def rewind(self, restore: Callable[[], None]) -> None:
        """Go on from an earlier state as soon as the hooks of the present iteration have been called.

        Args:
            restore (callable): Puts the state back, counters included, and
                calls ``before_train`` of all hooks, as a resume does.
        """
        self._restore = restore

    def _goes_back(self) -> bool:
        """Put an earlier state back, if a hook has asked for it; data workers start anew, as in a resume."""
        if self._restore is None:
            return False
        restore, self._restore = self._restore, None
        self.dataloader_iterator = self._place = None
        if getattr(self.dataloader, '_iterator', None) is not None:
            self.dataloader._iterator = None
        if isinstance(self._entry, SequentialEntry):
            self._entry = None
        self.stop_training = False
        restore()
        return True

    def _validate_if_due(self, done: int, end: int) -> None:
        self._decide_current_val_interval()
        if (self.runner.val_loop is not None and done >= self.val_begin
                and (done % self.val_interval == 0 or done == end)):
            self.runner.val_loop.run()

    def data_state(self) -> dict[str, Any] | None:
        """Return this rank's place in data that have no index, or None: an index needs none."""
        if isinstance(self._entry, SequentialEntry):
            return self._entry.state()
        return self._place

    def load_data_state(self, state: dict[str, Any] | None) -> None:
        """Go on from a place; call it before the data are opened, in ``before_train``."""
        self._place = state

    def _open(self, epoch: int, batches: int, endless: bool) -> Iterator[Any]:
        if self._entry is None:
            self._entry = self._new_entry(endless)
        batches_left = self._entry.open(epoch, batches)
        if isinstance(self._entry, SequentialEntry) and self._entry.reread:
            self.runner.logger.warning(
                f'The data set cannot be indexed, so {self._entry.reread} batches were read again to find the place '
                "in the data. In torchdata's StatefulDataLoader, a data set with state_dict and load_state_dict, "
                'or with such an iterator, goes on at once.')
        return batches_left

    def _new_entry(self, endless: bool) -> DataEntry | SequentialEntry:
        """Prepare the loader when the seed is known for good: after a resume has restored it."""
        loader, seed = self.dataloader, self.runner.seed
        if isinstance(loader.dataset, DeterministicDataset) and loader.dataset.seed is None:
            loader.dataset.seed = seed
        rank, world_size = get_dist_info()
        if is_indexed(loader) and not is_stateful(loader):
            return DataEntry(loader, seed, rank, world_size, endless)
        return SequentialEntry(loader, seed, rank, endless, self._place)


@LOOPS.register_module()
class EpochBasedTrainLoop(_KnowsItsPlace, _EpochBasedTrainLoop):
    """MMEngine's epoch-based loop, which also resumes inside an epoch.

    It enters the epoch at the batch that comes next, without reading those
    before, with the ``batch_idx`` and ``iter`` of an uninterrupted run. The
    order of the data and the seeds of its workers are functions of the run's
    seed, the epoch and the rank.

    Data without an index work with torchdata's ``StatefulDataLoader``, as an
    object or as ``train_dataloader=dict(type='StatefulDataLoader', ...)``: its
    state, by rank, is in every checkpoint. What a data set of that kind draws
    in data workers is its own matter: its generator belongs into its state.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): The training loader or its config; it
            must have a length.
        *args: Further arguments of MMEngine's ``EpochBasedTrainLoop``.
        **kwargs: Keyword arguments of the same.

    Example:
        >>> train_cfg = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=20, val_interval=1)
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, built_loader(dataloader, runner.seed), *args, **kwargs)

    def run(self) -> Any:
        """Launch training."""
        self._is_first_epoch = True
        self.runner.call_hook('before_train')
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self._goes_back():
                self._is_first_epoch = True
                continue
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        start = self._done_in_epoch() if self._is_first_epoch else 0
        self._is_first_epoch = False
        for idx, data_batch in enumerate(self._open(self._epoch, start, endless=False), start):
            self.run_iter(idx, data_batch)
            if self._restore is not None:
                return
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _done_in_epoch(self) -> int:
        """Return how many batches of the epoch at hand were done before this process."""
        if self._place is not None:
            return self._place['batches'] if self._place['epoch'] == self._epoch else 0
        length = len(self.dataloader)
        # Not iter % length: a file made after the last iteration of an epoch that was not closed
        # has start == length; it runs no batch, only what comes after the epoch.
        start = self._iter - self._epoch * length
        if not 0 <= start <= length:
            self.runner.logger.warning(
                f'Iteration {self._iter} does not lie in epoch {self._epoch + 1} of {length} iterations: the number '
                'of samples, the batch size or the number of ranks has changed. The epoch starts at its beginning.')
            start = 0
        return start


@LOOPS.register_module()
class IterBasedTrainLoop(_KnowsItsPlace, _IterBasedTrainLoop):
    """MMEngine's iteration-based loop, which resumes without replaying the data.

    Stock reads and drops every batch that was consumed before; this loop
    enters the order of the data where it stands. Its data workers start when
    training starts, not when the loop is built. Data without an index work as
    in :class:`EpochBasedTrainLoop`, and need no length here.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): The training loader or its config.
        max_iters (int): Total training iterations.
        val_begin (int): The iteration that begins validating. Defaults to 1.
        val_interval (int): Validation interval, in iterations. Defaults to 1000.
        dynamic_intervals (list[tuple[int, int]], optional): Milestones and the
            validation interval from each on. Defaults to None.

    Example:
        >>> train_cfg = dict(type='mmckpt.IterBasedTrainLoop', max_iters=90000, val_interval=5000)
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, max_iters: int, val_begin: int = 1,
                 val_interval: int = 1000, dynamic_intervals: list[tuple[int, int]] | None = None) -> None:
        # Not the parent's: it opens a data iterator at once, before a resume knows where.
        BaseLoop.__init__(self, runner, built_loader(dataloader, runner.seed))
        self._max_iters = int(max_iters)
        if self._max_iters != max_iters:
            raise ValueError(f'max_iters must be a whole number, but got {max_iters}.')
        self._max_epochs = 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def run(self) -> Any:
        """Launch training."""
        self.runner.call_hook('before_train')
        self._enter()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            if self._goes_back():
                self._enter()
                continue
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _enter(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.dataloader_iterator: Any = self._open(0, self._iter, endless=True)
