"""The validation loss as a metric, for any model."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner.amp import autocast

from mmckpt.hooks.runner_adapter import bound_scalar, gather_objects, unwrapped_model
from mmckpt.loops import MultiValLoop
from mmckpt.registry import HOOKS
from mmckpt.state.rng import preserved_rng


@HOOKS.register_module()
class ValLossHook(Hook):
    """Adds the mean loss over the validation set to the metrics.

    Each validation batch also goes through the model with ``mode='loss'``,
    unless the model gives its losses along with the predictions, as MMEngine's
    loop allows (a last ``BaseDataElement`` with a ``loss``).
    ``loss`` is the mean of the total over all samples of all ranks;
    ``loss_heatmap`` and so on are those of its terms: a term that the model
    calls ``heatmap_loss`` is ``loss_heatmap``, any other keeps its name. They
    are in the logs, in ``save_best`` and in early stopping like any metric,
    and with ``EMAHook`` they belong to the averaged weights. With
    ``mmckpt.MultiValLoop`` there are also those of each loader.

    Training is the same to the bit with and without this hook: no gradient,
    evaluation mode, and buffers and random streams are put back. A sample that
    a sampler repeats to make ranks even (``round_up=True``) counts again.

    When the model cannot compute a loss on validation batches, mostly because
    the validation pipeline makes no targets, one warning says so, and that
    validation goes on without these metrics.

    Args:
        prefix (str, optional): Put before the names, as in ``val2/loss``.
            Defaults to None.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.ValLossHook')]
        >>> default_hooks = dict(checkpoint=dict(
        ...     type='mmckpt.CheckpointHook', save_best=['loss', 'AP'], rule=['less', 'greater']))
    """

    # The metrics must be there before RuntimeInfoHook (10), the first to read them.
    priority = 'HIGHEST'

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = prefix
        # Sum over samples and number of samples, a loader and term.
        self._sums: dict[tuple[int, str], list[float]] = {}
        self._given = GivenLosses()
        self._failure: str | None = None
        self._warned: set[str] = set()

    def before_val_epoch(self, runner: Any) -> None:
        """Forget the last validation."""
        self._sums = defaultdict(lambda: [0.0, 0])
        self._given = GivenLosses()
        self._failure = None

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        """Add the loss of this batch, after the evaluator has seen the predictions."""
        if self._failure is not None:
            return
        try:
            size = batch_size(data_batch)
            fp16 = getattr(runner.val_loop, 'fp16', False)
            losses = self._given(getattr(runner.val_loop, 'val_loss', {})) or validation_losses(
                unwrapped_model(runner), data_batch, fp16)
        except Exception:
            # A number to look at must not end a training; all ranks hear of it in after_val_epoch.
            self._failure = traceback.format_exc()
            return
        for term, value in losses.items():
            total = self._sums[getattr(runner.val_loop, 'current', 0), metric_name(term)]
            total[0] += value * size
            total[1] += size

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Put the means over all ranks into the metrics."""
        ranks = gather_objects((dict(self._sums), self._failure))
        failures = [failure for _, failure in ranks if failure is not None]
        if failures:
            self._warn(runner, 'failure', (
                f"This validation has no loss: {type(unwrapped_model(runner)).__name__} with mode='loss' "
                'failed on a validation batch. Mostly the validation pipeline makes no targets: add the '
                'steps that make and pack them in the training pipeline. Where the loss needs what only training '
                'has (a teacher, several views, a queue), monitor a metric and remove ValLossHook.\n'
                f'{failures[0]}'))
            return
        for name, mean in self._named(runner.val_loop, [sums for sums, _ in ranks]).items():
            key = f'{self.prefix}/{name}' if self.prefix else name
            if key not in metrics:
                metrics[key] = mean
                _show_current(runner.message_hub, f'val/{key}')
            elif not self._given:
                self._warn(runner, key, (
                    f'The evaluator has a metric {key!r}, which ValLossHook leaves as it is. Set a prefix on '
                    "ValLossHook, such as prefix='val', to have both."))

    def _named(self, loop: Any, ranks: list[dict[tuple[int, str], list[float]]]) -> dict[str, float]:
        """The means over all samples, and with several loaders those of each of them."""
        together = [_without_loader(sums) for sums in ranks]
        named = _means(together)
        if isinstance(loop, MultiValLoop):
            named.update({loop.name_of(metric, index): mean for (index, metric), mean in _means(ranks).items()})
        return named

    def _warn(self, runner: Any, topic: str, text: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            runner.logger.warning(text)


class GivenLosses:
    """The losses that a model gives along with its predictions, which cost no second forward.

    MMEngine's loop keeps them by name and appends those of each batch.

    Example:
        >>> from mmengine.logging import HistoryBuffer
        >>> given, kept = GivenLosses(), {'loss_kpt': HistoryBuffer()}
        >>> kept['loss_kpt'].update(0.5)
        >>> given(kept), given(kept)
        ({'loss': 0.5, 'loss_kpt': 0.5}, {})
    """

    def __init__(self) -> None:
        self._read: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._read)

    def __call__(self, kept: Mapping[str, Any]) -> dict[str, float]:
        """Return total and terms of the batch at hand; nothing where the model gives none."""
        new: dict[str, float] = {}
        for name, buffer in kept.items():
            values = buffer.data[0][self._read.get(name, 0):]
            if len(values):
                # A term that is a list of tensors is their sum, as in training.
                new[name] = float(values.sum())
            self._read[name] = len(buffer.data[0])
        return {'loss': sum(v for name, v in new.items() if 'loss' in name), **new} if new else {}


def _show_current(message_hub: Any, key: str) -> None:
    """Let the log show this validation's loss.

    MMEngine prints the mean over a window of whatever has "loss" in its name,
    here over the last validations; a history of one value has no other mean.
    """
    if key in message_hub.log_scalars:
        bound_scalar(message_hub.log_scalars[key], 1)


@torch.no_grad()
def validation_losses(model: Any, data_batch: Any, fp16: bool = False) -> dict[str, float]:
    """Return total and terms of a model's loss on one batch; the model stays as it is.

    Args:
        model (BaseModel): The model without a wrapper, in evaluation mode.
        data_batch (Any): What the validation loader gave.
        fp16 (bool): Whether to run under autocast, as the validation does.
            Defaults to False.

    Returns:
        dict: The mean over the batch by term, ``loss`` first.
    """
    with preserved_rng(), preserved_buffers(model), autocast(enabled=fp16):
        data = model.data_preprocessor(data_batch, False)
        losses = model._run_forward(data, mode='loss')
        _, terms = model.parse_losses({name: _as_tensors(value) for name, value in losses.items()})
    return {name: float(value) for name, value in terms.items()}


@contextmanager
def preserved_buffers(model: torch.nn.Module) -> Iterator[None]:
    """Leave a model's buffers (BN statistics, queues, counters) as they were.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with preserved_buffers(norm):
        ...     _ = norm(torch.ones(4, 2))
        >>> norm.num_batches_tracked.item()
        0
    """
    kept = [(module._buffers, name, buffer, buffer.clone(), buffer._version) for module in model.modules()
            for name, buffer in module._buffers.items() if buffer is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for owner, name, buffer, value, version in kept:
                owner[name] = buffer
                if buffer._version != version:
                    buffer.copy_(value)


def batch_size(data_batch: Any) -> int:
    """Return the number of samples in what a data loader gave.

    Example:
        >>> batch_size(dict(inputs=[1, 2, 3])), batch_size((torch.zeros(2, 5), [0, 1]))
        (3, 2)
    """
    first = data_batch
    if isinstance(data_batch, (list, tuple)):
        first = data_batch[0]
    while isinstance(first, Mapping):
        first = first['inputs'] if 'inputs' in first else next(iter(first.values()))
    return len(first)


def metric_name(term: str) -> str:
    """Return the name of a loss term as a metric: ``heatmap_loss`` is ``loss_heatmap``."""
    return f'loss_{term[:-5]}' if term.endswith('_loss') else term


def _as_tensors(value: Any) -> Any:
    """MMEngine's ``parse_losses`` refuses the plain numbers that some models return."""
    if isinstance(value, (list, tuple)):
        return [_as_tensors(item) for item in value]
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(float(value))


def _without_loader(sums: dict[tuple[int, str], list[float]]) -> dict[str, list[float]]:
    together: dict[str, list[float]] = {}
    for (_, name), (total, count) in sums.items():
        before = together.get(name, [0.0, 0])
        together[name] = [before[0] + total, before[1] + count]
    return together


def _means(ranks: list[dict[Any, list[float]]]) -> dict[Any, float]:
    totals: dict[Any, list[float]] = {}
    for name, (total, count) in (item for sums in ranks for item in sums.items()):
        before = totals.get(name, [0.0, 0])
        totals[name] = [before[0] + total, before[1] + count]
    return {name: total / count for name, (total, count) in totals.items()}
