"""What a resume will meet, judged before it starts; no Runner in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from mmckpt.state.config_diff import ABSENT, ConfigChange

_MOST_ROWS = 12
_LONGEST = 70


class Harm(IntEnum):
    """What a difference takes away from a resume."""

    NOTHING = 0
    EXACTNESS = 1
    RESUME = 2


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was when the checkpoint was written.

    Args:
        kind (str): What it concerns, such as ``'config'``.
        text (str): What differs, and what follows from it.
        harm (Harm): What it takes away.
    """

    kind: str
    text: str
    harm: Harm


def inexact(kind: str, text: str) -> Difference:
    """Return a difference that makes the resumed run another one than the uninterrupted run."""
    return Difference(kind, text, Harm.EXACTNESS)


@dataclass(frozen=True)
class Preflight:
    """The verdict on a resume and its reasons.

    Args:
        title (str): Which file, and where in the training.
        differences (tuple[Difference, ...]): In any order.

    Example:
        >>> print(Preflight('epoch_3.pth', (Difference('seed', '3 -> 5', Harm.EXACTNESS),)))
        Resume preflight of epoch_3.pth
          ~ seed      3 -> 5
          verdict: continues, but not exact (~): seed
    """

    title: str
    differences: tuple[Difference, ...] = ()

    @property
    def harm(self) -> Harm:
        """The worst that any difference does."""
        return max((d.harm for d in self.differences), default=Harm.NOTHING)

    @property
    def refusals(self) -> list[str]:
        """Why the resume cannot start; empty if it can."""
        return [d.text for d in self.differences if d.harm is Harm.RESUME]

    @property
    def verdict(self) -> str:
        """``'exact'``, or what the resume is instead, and because of what."""
        if self.harm is Harm.RESUME:
            return 'refused (X)'
        kinds = dict.fromkeys(d.kind for d in self.differences if d.harm is Harm.EXACTNESS)
        if kinds:
            return f"continues, but not exact (~): {', '.join(kinds)}"
        return f"exact: {'none of these changes the training' if self.differences else 'nothing has changed'}"

    def __str__(self) -> str:
        lines = [f'Resume preflight of {self.title}']
        for harm, mark in ((Harm.RESUME, 'X'), (Harm.EXACTNESS, '~'), (Harm.NOTHING, '=')):
            rows = [d for d in self.differences if d.harm is harm]
            lines += [f'  {mark} {d.kind:9} {_indented(d.text)}' for d in rows[:_MOST_ROWS]]
            if len(rows) > _MOST_ROWS:
                lines.append(f'  {mark} ... and {len(rows) - _MOST_ROWS} more')
        return '\n'.join([*lines, f'  verdict: {self.verdict}'])


def judge_config(changes: Iterable[ConfigChange], seeded_samples: bool) -> list[Difference]:
    """Judge which changes of a config make the training another one.

    Args:
        changes (Iterable[ConfigChange]): From the checkpoint's config to this run's.
        seeded_samples (bool): Whether each sample is seeded by its position
            (``mmckpt.DeterministicDataset``), so that data workers do not matter.

    Example:
        >>> [lr, log] = judge_config([ConfigChange('optim_wrapper.optimizer.lr', '0.1', '0.2', 'SGD'),
        ...                           ConfigChange('log_level', "'INFO'", "'DEBUG'", '')], True)
        >>> lr.text, lr.harm.name, log.harm.name
        ('optim_wrapper.optimizer.lr: 0.1 -> 0.2', 'EXACTNESS', 'NOTHING')
    """
    return [Difference('config', change_text(c), _config_harm(c, seeded_samples)) for c in changes
            if not _is(c.path, _ABOUT_THIS_START)]


def change_text(change: ConfigChange) -> str:
    """Return one line for a change, long values shortened."""
    if change.saved == ABSENT:
        return f'{change.path} added: {shortened(change.now)}'
    if change.now == ABSENT:
        return f'{change.path} removed: {shortened(change.saved)}'
    return f'{change.path}: {shortened(change.saved)} -> {shortened(change.now)}'


def shortened(text: str) -> str:
    """Cut a text in its middle.

    Example:
        >>> len(shortened('x' * 500))
        70
    """
    half = (_LONGEST - 3) // 2
    return text if len(text) <= _LONGEST else f'{text[:half]}...{text[half - _LONGEST + 3:]}'


def some_of(names: Iterable[object], most: int = 3) -> str:
    """Return the first few names, and how many more there are; empty ones are left out.

    Example:
        >>> some_of(['a', '', 'b', 'c', 'd', 'e'])
        'a, b, c and 2 more'
    """
    texts = [str(name) for name in names if str(name)]
    return ', '.join(texts[:most]) + (f' and {len(texts) - most} more' if len(texts) > most else '')


# Which run this is, not how it trains.
_ABOUT_THIS_START = ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name')
# The entries that a Runner reads for training; anything else is a variable of the config.
_TRAINING = (
    'model', 'data_preprocessor', 'preprocess_cfg', 'train_dataloader', 'train_cfg', 'optim_wrapper',
    'param_scheduler', 'randomness', 'auto_scale_lr', 'custom_hooks', 'default_hooks', 'compile', 'sync_bn',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'model_wrapper_cfg', 'runner_type',
    'env_cfg.cudnn_benchmark')
# A validation decides on best scores, early stopping and plateau schedulers.
_VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')
# How long and how often; schedulers that depend on it are compared themselves.
_LENGTH = ('train_cfg.max_epochs', 'train_cfg.max_iters')
_LOADING = tuple(f'train_dataloader.{key}' for key in (
    'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'timeout'))
_WATCHING_HOOKS = (
    'CheckpointHook', 'LoggerHook', 'IterTimerHook', 'RuntimeInfoHook', 'DetailedLossLogHook',
    'TrainingMonitorHook', 'ValLossHook', 'PreemptionHook', 'ProfilerHook', 'MemoryProfilerHook',
    'EmptyCacheHook', 'KeypointVisualizationHook', 'PoseVisualizationHook', 'DetVisualizationHook',
    'SegVisualizationHook')


def _config_harm(change: ConfigChange, seeded_samples: bool) -> Harm:
    if _is(change.path, _VALIDATION):
        return Harm.EXACTNESS
    if not _is(change.path, _TRAINING) or _is(change.path, _LENGTH):
        return Harm.NOTHING
    if seeded_samples and _is(change.path, _LOADING):
        return Harm.NOTHING
    if _is(change.path, ('custom_hooks', 'default_hooks')) and change.owner in _WATCHING_HOOKS:
        return Harm.NOTHING
    return Harm.EXACTNESS


def _is(path: str, keys: tuple[str, ...]) -> bool:
    return any(path == key or path.startswith((f'{key}.', f'{key}[')) for key in keys)


def _indented(text: str) -> str:
    return text.replace('\n', '\n' + ' ' * 14)
