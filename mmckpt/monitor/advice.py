"""What to look at when something is found, in terms of the run's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

SMALL_BATCH = 8


@dataclass(frozen=True)
class TrainingContext:
    """The settings of a run that advice refers to; None where one is not known.

    Args:
        lr (float, optional): The largest present learning rate of all
            parameter groups.
        max_norm (float, optional): The norm at which gradients are clipped;
            None if they are not clipped by norm.
        batch_size (int, optional): Samples a step on one device.
        amp_dtype (str, optional): Data type of mixed precision, such as
            ``'float16'``; None if it is off.
        num_workers (int, optional): Processes that load the training data.
    """

    lr: float | None = None
    max_norm: float | None = None
    batch_size: int | None = None
    amp_dtype: str | None = None
    num_workers: int | None = None


Cause = Callable[[TrainingContext], str]


def advise(kind: str, context: TrainingContext) -> list[str]:
    """Return what to look at for a kind of finding, most likely cause first.

    Args:
        kind (str): The kind of a :class:`Finding`.
        context (TrainingContext): The run's present settings.

    Returns:
        list[str]: One line a cause.

    Example:
        >>> for line in advise('loss_spike', TrainingContext(lr=0.01, max_norm=35.0)):
        ...     print(line)
        data: look at the samples of this batch (wrong labels, empty targets, extreme augmentation).
        learning rate: it is 0.01 now; if spikes come back, try 0.003 or a longer warm-up.
        gradient clipping: max_norm is 35 now; a smaller one damps such a step.
    """
    return [line for line in (cause(context) for cause in CAUSES.get(kind, ())) if line]


def _batch_size(context: TrainingContext) -> str:
    return '' if context.batch_size is None else f'batch size: it is {context.batch_size} a device now; halve it.'


def _loader(context: TrainingContext) -> str:
    workers = '' if context.num_workers is None else f' it is {context.num_workers} now;'
    return f'num_workers:{workers} more of them, with persistent_workers=True, prepare batches in the background.'


def _learning_rate(condition: str) -> Cause:
    def line(context: TrainingContext) -> str:
        if not context.lr:
            return ''
        lower = f'{context.lr * 0.3:.3g}'
        return f'learning rate: it is {context.lr:g} now; {condition}, try {lower} or a longer warm-up.'

    return line


def _too_small_lr(context: TrainingContext) -> str:
    if context.lr is None:
        return ''
    return (f'learning rate: it is {context.lr:g} now; try {context.lr * 10:.3g}, and {context.lr * 0.1:.3g} if the '
            'loss jumps about.')


def _says(text: str) -> Cause:
    return lambda context: text


def _clipping(context: TrainingContext) -> str:
    if context.max_norm is None:
        return 'gradient clipping: it is off; set optim_wrapper=dict(clip_grad=dict(max_norm=...)).'
    return f'gradient clipping: max_norm is {context.max_norm:g} now; a smaller one damps such a step.'


def _small_batch(context: TrainingContext) -> str:
    if context.batch_size is None or context.batch_size > SMALL_BATCH:
        return ''
    return f'batch size: {context.batch_size} a device makes a noisy loss; a larger one is calmer.'


def _too_small_batch(context: TrainingContext) -> str:
    return '' if context.batch_size is None else (
        f'batch size: it is {context.batch_size} a device now; a larger one fills the device better.')


def _loader_memory(context: TrainingContext) -> str:
    return '' if not context.num_workers else (
        f'workers: {context.num_workers} of them copy python objects of the data set page by page; use arrays.')


def _precision(context: TrainingContext) -> str:
    if context.amp_dtype is None:
        return ''
    if context.amp_dtype == 'float16':
        return ('mixed precision: float16 overflows above 65504, and its loss scaler skips such steps; if it '
                'goes on, use bfloat16 or compute the loss in float32.')
    return f'mixed precision: the model runs in {context.amp_dtype}; compute the loss in float32.'


_BATCH = _says('data: look at the samples of this batch (wrong labels, empty targets, extreme augmentation).')
_RECOVERY = _says('recovery: resume from a checkpoint before the jump; it may not come down by itself.')
_FORWARD = _says('model: look for a module that forward() does not use, or whose output is detached.')

CAUSES: dict[str, tuple[Cause, ...]] = {
    'loss_spike': (_BATCH, _learning_rate('if spikes come back'), _clipping, _small_batch),
    'loss_level': (_learning_rate('the step that did this was too large'), _clipping, _RECOVERY),
    'non_finite': (
        _precision, _learning_rate('if the loss had been rising before'), _clipping,
        _says('model: look for log, sqrt or a division without an epsilon in the term named above.'),
        _says('data: look for NaN, empty targets or zero-sized boxes in this batch.')),
    'divergence': (_learning_rate('that is the usual cause'), _clipping, _precision, _small_batch,
                   _says('data: labels or preprocessing that changed in the middle of the run do this too.'),
                   _RECOVERY),
    'performance_drop': (
        _learning_rate('if the training loss rose too'),
        _says('overfitting: if the training loss still falls, add augmentation or regularisation, or stop here.'),
        _says('data: labels or preprocessing that changed in the middle of the run do this too.'),
        _says('the checkpoint of the best validation is the one to use or to resume from.')),
    'no_progress': (
        _too_small_lr, _says('data: check that labels belong to their images, and that normalisation is as the '
                             'model expects.'),
        _says('model: check that the layers to train have requires_grad and are in the optimizer.')),
    'plateau': (_says('learning rate: let a schedule lower it now, or stop here.'),
                _says('model and data: more capacity or more varied data, if the level is not good enough.')),
    'metric_zero': (
        _says('evaluation: compare the coordinates, classes and ids of a prediction with its annotation; a shift or '
              'a wrong mapping gives exactly 0.'),
        _says('threshold: predictions below a score threshold are not counted at all.'), _too_small_lr),
    'overfitting': (
        _says('stop here (EarlyStoppingHook), and use the checkpoint of the best validation.'),
        _says('augmentation and regularisation: stronger augmentation, weight decay or dropout.'),
        _says('data: more of it, or a smaller model.')),
    'loss_term_dead': (
        _says('targets: a term over samples that never occur (no visible key point, all weights 0) is 0.'),
        _says('config: look whether the weight of this term (loss_weight) is 0.'),
        _says('model: look whether its branch is reached, and not under no_grad.')),
    'loss_term_missing': (_says('model: look for the condition under which loss() leaves this term out.'),
                          _says('config: look whether the head or module that gives it is still there.')),
    'loss_scale': (
        _says('config: if the small term shall matter, raise its loss_weight by about the ratio.'),
        _says('units: a sum over pixels beside a mean over samples differs by the number of pixels.')),
    'gradient_explosion': (_clipping, _learning_rate('if the loss rises too'), _precision, _small_batch),
    'gradient_vanishing': (
        _says('model: look for saturated activations, a wrong initialisation, or losses behind detach().'),
        _says('loss: look whether all its terms are clamped or masked out.'), _precision),
    'idle_parameters': (
        _FORWARD, _says('config: freeze them on purpose (requires_grad=False), so that they cost no memory.'),
        _says('distributed training fails on such parameters without find_unused_parameters=True.')),
    'lr_zero': (_says('schedule: a param_scheduler has reached its end (T_max, end, eta_min) before the training.'),
                _says('config: look at lr and at paramwise_cfg, and at begin and by_epoch of the schedulers.')),
    'slow_data': (_loader, _says('pipeline: time its transforms one by one; decode and resize once, not each epoch.'),
                  _says('disk: copy the data to a local disk, or into few large files.')),
    'slowing': (_says('growth: something is longer with each iteration, such as a list or a log that is kept.'),
                _says('machine: look at other processes, at temperature and at the disk.')),
    'memory_growth': (
        _says('references: look for losses or outputs that are kept in a list without .item() or .detach().'),
        _says('caches: look for dicts or lists in the data set and in hooks that grow with the samples.'),
        _loader_memory, _batch_size),
    'gpu_idle': (_loader, _too_small_batch,
                 _says('synchronisation: look for .item(), .cpu() or print of tensors in the model.')),
}
