"""Train loops that go on exactly where a checkpoint was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional, Union

from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmckpt.data import DeterministicDataset
from mmckpt.data.resumable_batches import DataEntry
from mmckpt.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(_EpochBasedTrainLoop):
    """MMEngine's epoch-based loop, which also resumes inside an epoch.

    It enters the epoch at the batch that comes next, without reading those
    before, with the ``batch_idx`` and ``iter`` of an uninterrupted run. The
    order of the data and the seeds of its workers are functions of the run's
    seed and the epoch.

    Args:
        *args: Arguments of MMEngine's ``EpochBasedTrainLoop``.
        **kwargs: Keyword arguments of the same.

    Example:
        >>> train_cfg = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=20, val_interval=1)
    """

    def run(self) -> Any:
        """Launch training."""
        self._entry: Optional[DataEntry] = None
        return super().run()

    def run_epoch(self) -> None:
        """Run one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        length = len(self.dataloader)
        # Not iter % length: a file made after the last iteration of an epoch that was not closed
        # has start == length; it runs no batch, only what comes after the epoch.
        start = self._iter - self._epoch * length
        if not 0 <= start <= length:
            self.runner.logger.warning(
                f'Iteration {self._iter} does not lie in epoch {self._epoch + 1} of {length} iterations: the number '
                'of samples, the batch size or the number of ranks has changed. The epoch starts at its beginning.')
            start = 0
        if start < length:
            if self._entry is None:
                self._entry = _open_entry(self, endless=False)
            for idx, data_batch in enumerate(self._entry.open(self._epoch, start), start):
                self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class IterBasedTrainLoop(_IterBasedTrainLoop):
    """MMEngine's iteration-based loop, which resumes without replaying the data.

    Stock reads and drops every batch that was consumed before; this loop
    enters the order of the data where it stands. Its data workers start when
    training starts, not when the loop is built.

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

    def __init__(self, runner: Any, dataloader: Union[DataLoader, dict], max_iters: int, val_begin: int = 1,
                 val_interval: int = 1000, dynamic_intervals: Optional[list[tuple[int, int]]] = None) -> None:
        # Not the parent's: it opens a data iterator at once, before a resume knows where.
        BaseLoop.__init__(self, runner, dataloader)
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
        self.runner.call_hook('before_train_epoch')
        self.dataloader_iterator: Iterator[Any] = _open_entry(self, endless=True).open(0, self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if (self.runner.val_loop is not None and self._iter >= self.val_begin
                    and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)):
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


def _open_entry(loop: Any, endless: bool) -> DataEntry:
    """Prepare the loader when the seed is known for good: after a resume has restored it."""
    dataset = loop.dataloader.dataset
    if isinstance(dataset, DeterministicDataset) and dataset.seed is None:
        dataset.seed = loop.runner.seed
    rank, world_size = get_dist_info()
    entry = DataEntry(loop.dataloader, loop.runner.seed, rank, world_size, endless)
    if not entry.is_direct and loop.iter > 0:
        loop.runner.logger.warning(
            f'The data set cannot be indexed, so {loop.iter} batches are read again to find the place in the data. '
            "torchdata's StatefulDataLoader keeps its own place.")
    return entry
