"""Logs every loss term with all its digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmckpt.hooks.runner_adapter import (
    gather_objects,
    host_scalars,
    progress_after_epoch,
    progress_after_iter,
)
from mmckpt.registry import HOOKS


@HOOKS.register_module()
class DetailedLossLogHook(Hook):
    """Logs one line with every scalar of the train step, to six decimals.

    ``Iter [50] loss: 2.345678, heatmap_loss: 2.100000`` shows the values of
    completed iteration 50, in the model's order. With ``by_epoch=True`` the line
    ``Epoch [3] ...`` shows the means over the epoch. In distributed training
    values are averaged over the ranks, when a line is due only.

    Args:
        interval (int): Completed iterations (or epochs) between two lines, at
            least 1. Defaults to 50.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to False.

    Raises:
        ValueError: If ``interval`` is less than 1.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.DetailedLossLogHook', interval=50)]
    """

    # Before the checkpoint is written, so that the log says what led to it.
    priority = 'LOW'

    def __init__(self, interval: int = 50, by_epoch: bool = False) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, but got {interval}.')
        self.interval = interval
        self.by_epoch = by_epoch
        self._epoch: dict[str, tuple[float, int]] = {}

    def before_train_epoch(self, runner: Any) -> None:
        """Start the means of an epoch anew."""
        self._epoch = {}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Log the line of this iteration if it is due, or add it to the epoch's means."""
        count = progress_after_iter(runner).iter
        if self.by_epoch:
            for name, value in host_scalars(outputs).items():
                total, n = self._epoch.get(name, (0.0, 0))
                self._epoch[name] = (total + value, n + 1)
        elif count % self.interval == 0:
            self._log(runner, f'Iter [{count}]', host_scalars(outputs))

    def after_train_epoch(self, runner: Any) -> None:
        """Log the means of the epoch if that is due."""
        count = progress_after_epoch(runner).epoch
        if self.by_epoch and count % self.interval == 0:
            means = {name: total / n for name, (total, n) in self._epoch.items()}
            self._log(runner, f'Epoch [{count}]', means)

    def _log(self, runner: Any, head: str, values: dict[str, float]) -> None:
        # A collective: every rank enters, whatever its outputs hold.
        ranks = gather_objects(values)
        if is_main_process():
            terms = [f'{name}: {value:.6f}' for name, value in mean_over_ranks(ranks).items()]
            runner.logger.info(f'{head} {", ".join(terms)}')


def mean_over_ranks(ranks: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average each entry over the ranks that have it; a rank may lack a term in some batch.

    Example:
        >>> mean_over_ranks([{'loss': 1.0}, {'loss': 2.0, 'loss_mask': 4.0}])
        {'loss': 1.5, 'loss_mask': 4.0}
    """
    found: dict[str, list[float]] = {}
    for values in ranks:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
