"""What to look at when something is found, in terms of the run's own settings."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    lr: float | None = None
    max_norm: float | None = None
    batch_size: int | None = None
    amp_dtype: str | None = None


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
    lines = {
        'loss_spike': [_batch_data(), _learning_rate(context, 'if spikes come back'), _clipping(context),
                       _small_batch(context)],
        'loss_level': [_learning_rate(context, 'the step that did this was too large'), _clipping(context),
                       'recovery: resume from a checkpoint before the jump; it may not come down by itself.'],
        'non_finite': [_precision(context), _learning_rate(context, 'if the loss had been rising before'),
                       _clipping(context),
                       'model: look for log, sqrt or a division without an epsilon in the term named above.',
                       'data: look for NaN, empty targets or zero-sized boxes in this batch.'],
        'performance_drop': [_learning_rate(context, 'if the training loss rose too'),
                             'overfitting: if the training loss still falls, add augmentation or '
                             'regularisation, or stop here.',
                             'the checkpoint of the best validation is the one to use or to resume from.'],
    }
    return [line for line in lines.get(kind, []) if line]


def _batch_data() -> str:
    return 'data: look at the samples of this batch (wrong labels, empty targets, extreme augmentation).'


def _learning_rate(context: TrainingContext, condition: str) -> str:
    if context.lr is None:
        return ''
    lower = f'{context.lr * 0.3:.3g}'
    return f'learning rate: it is {context.lr:g} now; {condition}, try {lower} or a longer warm-up.'


def _clipping(context: TrainingContext) -> str:
    if context.max_norm is None:
        return 'gradient clipping: it is off; set optim_wrapper=dict(clip_grad=dict(max_norm=...)).'
    return f'gradient clipping: max_norm is {context.max_norm:g} now; a smaller one damps such a step.'


def _small_batch(context: TrainingContext) -> str:
    if context.batch_size is None or context.batch_size > SMALL_BATCH:
        return ''
    return f'batch size: {context.batch_size} a device makes a noisy loss; a larger one is calmer.'


def _precision(context: TrainingContext) -> str:
    if context.amp_dtype is None:
        return ''
    if context.amp_dtype == 'float16':
        return ('mixed precision: float16 overflows above 65504, and its loss scaler skips such steps; if it '
                'goes on, use bfloat16 or compute the loss in float32.')
    return f'mixed precision: the model runs in {context.amp_dtype}; compute the loss in float32.'
