"""Logs every loss term with all its digits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmckpt.hooks.raw_losses import RawLosses
from mmckpt.hooks.runner_adapter import (
    gather_objects,
    host_scalars,
    is_training,
    on_train_exit,
    progress_after_epoch,
    progress_after_iter,
    unwrapped_model,
)
from mmckpt.monitor.scalar_file import ScalarFile, check_format
from mmckpt.progress import Progress
from mmckpt.registry import HOOKS

EXTRAS = ('grad_norm', 'lr')


@HOOKS.register_module()
class DetailedLossLogHook(Hook):
    """Logs one line with every scalar of the train step, to six decimals.

    ``Iter [50] loss: 2.345678, heatmap_loss: 2.100000`` shows the values of
    completed iteration 50, in the model's order, which stays the same when a
    term is missing now and then. With ``by_epoch=True`` the line ``Epoch [3]
    ...`` shows the means over the epoch. In distributed training values are
    averaged over the ranks, when a line is due only.

    Args:
        interval (int): Completed iterations (or epochs) between two lines, at
            least 1. Defaults to 50.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to False.
        window (int): Iterations over which a line by iteration takes the mean;
            1 shows the iteration's own values. Defaults to 1.
        expand (bool): Whether a term that the model gives as a list is
            followed by its entries, ``loss_aux[0]``, ``loss_aux[1]``. Defaults to True.
        extras (Sequence[str]): What to add to a line: ``'grad_norm'`` (before
            clipping) and ``'lr'``. Defaults to ().
        file (str, optional): A ``.csv`` or ``.jsonl`` file in the work
            directory, or a path, that gets a row for each line. Rows that a
            resume trains again are dropped; a fresh run keeps an older file
            under another name. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.DetailedLossLogHook', interval=50, file='losses.csv')]
    """

    # Before the checkpoint is written, so that the log says what led to it.
    priority = 'LOW'

    def __init__(self, interval: int = 50, by_epoch: bool = False, window: int = 1, expand: bool = True,
                 extras: Sequence[str] = (), file: str | None = None) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, but got {interval}.')
        if not 1 <= window or (by_epoch and window != 1):
            raise ValueError(f'window must be at least 1, and by_epoch=True takes the whole epoch, but got {window}.')
        unknown = [extras] if isinstance(extras, str) else [name for name in extras if name not in EXTRAS]
        if unknown:
            raise ValueError(f"extras must be a list of 'grad_norm' and 'lr', but got {unknown[0]!r}.")
        if file is not None:
            check_format(file)
        self.interval = interval
        self.by_epoch = by_epoch
        self.window = window
        self.expand = expand
        self.extras = tuple(extras)
        self.file = file
        self._raw = RawLosses()
        self._rows: ScalarFile | None = None
        self._recent: deque[dict[str, Any]] = deque(maxlen=window)
        self._epoch: dict[str, tuple[Any, int]] = {}
        self._order: list[str] = []
        self._lr: float | None = None
        self._said: set[str] = set()

    # Events ------------------------------------------------------------------

    def before_run(self, runner: Any) -> None:
        """Ask to be called when training ends, however it ends."""
        if self.expand and is_training(runner):
            on_train_exit(runner, lambda reason, error: self._raw.remove())

    def before_train(self, runner: Any) -> None:
        """Look at the model's losses, and go on with the file."""
        self._recent.clear()
        if self.expand:
            self._raw.install(unwrapped_model(runner))
        if self.file is not None and is_main_process():
            key, done = ('epoch', runner.epoch) if self.by_epoch else ('iter', runner.iter)
            self._try_file(runner, lambda: self._open(runner, key, done))

    def before_train_epoch(self, runner: Any) -> None:
        """Start the means of an epoch anew."""
        self._epoch = {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the entries of lists and the learning rate if a line will need them."""
        if self._is_needed(runner.iter + 1):
            if self.expand:
                self._raw.arm()
            if 'lr' in self.extras:
                self._lr = next(iter(runner.optim_wrapper.get_lr().values()))[0]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Log the line of this iteration if it is due, or add it to the epoch's means."""
        progress = progress_after_iter(runner)
        if not self._is_needed(progress.iter):
            return
        values = with_entries(host_scalars(outputs), self._raw.take())
        if self.by_epoch:
            for name, value in values.items():
                total, n = self._epoch.get(name, (0.0, 0))
                self._epoch[name] = (total + value, n + 1)
            return
        self._recent.append(values)
        if progress.iter % self.interval == 0:
            self._log(runner, f'Iter [{progress.iter}]', progress, mean_over(self._recent))

    def after_train_epoch(self, runner: Any) -> None:
        """Log the means of the epoch if that is due."""
        progress = progress_after_epoch(runner)
        if self.by_epoch and progress.epoch % self.interval == 0:
            means = {name: float(total / n) for name, (total, n) in self._epoch.items()}
            self._log(runner, f'Epoch [{progress.epoch}]', progress, means)

    # Parts -------------------------------------------------------------------

    def _is_needed(self, iteration: int) -> bool:
        return self.by_epoch or -iteration % self.interval < self.window

    def _log(self, runner: Any, head: str, progress: Progress, values: Mapping[str, float]) -> None:
        # A collective: every rank enters, whatever its outputs hold.
        means = mean_over(gather_objects(dict(values)))
        if not is_main_process():
            return
        self._order = merged_order(self._order, list(means))
        terms = {name: means[name] for name in self._order if name in means}
        extras = self._extras(runner)
        shown = [f'{name}: {value:.6f}' for name, value in terms.items()]
        shown += [f'{name}: {value:.6g}' if name == 'lr' else f'{name}: {value:.6f}' for name, value in extras.items()]
        runner.logger.info(f'{head} {", ".join(shown)}')
        rows = self._rows
        if rows is not None:
            self._try_file(runner, lambda: rows.append(
                {'epoch': progress.epoch, 'iter': progress.iter, **terms, **extras}))

    def _extras(self, runner: Any) -> dict[str, float]:
        found: dict[str, float] = {}
        if 'grad_norm' in self.extras:
            # MMEngine computes it where it clips; afterwards the gradients are gone.
            norm = runner.message_hub.log_scalars.get('train/grad_norm')
            if norm is not None:
                found['grad_norm'] = float(norm.current())
            else:
                self._say_once(runner, "The gradient norm is known only where gradients are clipped: set optim_wrapper="
                                       "dict(clip_grad=dict(max_norm=float('inf'))) to have it without clipping.")
        if 'lr' in self.extras and self._lr is not None:
            found['lr'] = float(self._lr)
        return found

    def _open(self, runner: Any, key: str, done: int) -> None:
        self._rows = ScalarFile(Path(runner.work_dir) / self.file, key, done, runner.timestamp)

    def _try_file(self, runner: Any, action: Any) -> None:
        """Do something with the file; a full disk stops the file, not the training."""
        try:
            action()
        except OSError as error:
            self._rows = None
            self._say_once(runner, f'{self.file} cannot be written, and no more is tried: {error}')

    def _say_once(self, runner: Any, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            runner.logger.warning(text)


def with_entries(values: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the entries of each list behind their sum.

    Example:
        >>> with_entries({'loss': 3.0, 'aux': 3.0, 'hits': 1.0}, {'aux': {'aux[0]': 1.0, 'aux[1]': 2.0}})
        {'loss': 3.0, 'aux': 3.0, 'aux[0]': 1.0, 'aux[1]': 2.0, 'hits': 1.0}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found[name] = value
        found.update(entries.get(name, {}))
    return found


def mean_over(parts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Average each entry over the iterations, or the ranks, that have it; a batch may lack a term.

    Example:
        >>> mean_over([{'loss': 1.0}, {'loss': 2.0, 'loss_mask': 4.0}])
        {'loss': 1.5, 'loss_mask': 4.0}
    """
    found: dict[str, list[Any]] = {}
    for values in parts:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: float(sum(values) / len(values)) for name, values in found.items()}


def merged_order(known: Sequence[str], names: Sequence[str]) -> list[str]:
    """Keep a known order; a new name comes behind the one that it follows now.

    Example:
        >>> merged_order(['loss', 'loss_cls'], ['loss', 'loss_mask', 'loss_cls', 'hits'])
        ['loss', 'loss_mask', 'loss_cls', 'hits']
    """
    order, at = list(known), 0
    for name in names:
        if name in order:
            at = order.index(name) + 1
        else:
            order.insert(at, name)
            at += 1
    return order
