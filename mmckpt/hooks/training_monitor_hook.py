"""Watches a training and says what goes wrong while it goes wrong."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Callable, Union

from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper

from mmckpt.errors import near_matches
from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.runner_adapter import (
    host_scalars,
    is_training,
    on_train_exit,
    progress_after_iter,
    progress_between,
)
from mmckpt.monitor import NonFiniteDetector, SpikeDetector, TrainingContext, TrainingMonitor
from mmckpt.monitor.events import Announcement
from mmckpt.monitor.report import to_json, to_text, write_atomically
from mmckpt.policy.selection import infer_rule
from mmckpt.registry import HOOKS

Switch = Union[bool, Mapping[str, Any]]


def _never_raises(event: Callable[..., None]) -> Callable[..., None]:
    """Keep a failure of the monitor from stopping the training: count it, log the first one."""

    @functools.wraps(event)
    def guarded(self: TrainingMonitorHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        try:
            event(self, runner, *args, **kwargs)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                runner.logger.exception(
                    f'TrainingMonitorHook failed in {event.__name__}; training goes on. Further failures are '
                    'counted in training_stats.txt, not logged.')

    return guarded


@HOOKS.register_module()
class TrainingMonitorHook(Hook):
    """Warns of loss spikes, NaN and performance drops, and keeps statistics of the run.

    It writes ``training_stats.txt`` and ``training_stats.json`` into the work
    directory at every validation, every ``interval`` iterations and when
    training ends, be it by an exception, SIGTERM or Ctrl-C. Each event is said
    once, with its numbers and what to look at; repeats are summed up. It never
    stops the training. With ``mmckpt.CheckpointHook`` its state survives a
    resume.

    Args:
        spike (bool or dict): Whether to look for loss spikes; a dict holds
            arguments of :class:`mmckpt.monitor.SpikeDetector`, such as
            ``dict(factor=2.0)``. Defaults to True.
        nan (bool): Whether to look for NaN and infinity. Defaults to True.
        performance_drop (bool or dict): Whether to look for metrics that fall
            under their best. A dict takes ``metric`` (name or list of names;
            ``'AP'`` also means ``'coco/AP'``), ``threshold`` (in units of the
            metric) and ``rule``. Without ``metric``, those of the checkpoint
            hook's ``save_best`` of which more is better. Defaults to True.
        interval (int): Completed iterations between two writings of the
            files besides the validations, at least 1. Defaults to 500.

    Raises:
        ValueError: If an argument is unknown or out of its range.

    Example:
        >>> custom_hooks = [dict(
        ...     type='mmckpt.TrainingMonitorHook', spike=dict(factor=2.0),
        ...     performance_drop=dict(metric='AP', threshold=0.05))]
    """

    # Before the checkpoint hook, so that the counters of an iteration are in its file.
    priority = 'LOW'

    def __init__(self, spike: Switch = True, nan: bool = True, performance_drop: Switch = True,
                 interval: int = 500) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1 iteration, but got {interval}.')
        self.interval = interval
        self.failures = 0
        self._spike = _arguments('spike', spike, inspect.signature(SpikeDetector).parameters)
        self._nan = nan
        self._drop = _arguments('performance_drop', performance_drop, ('metric', 'threshold', 'rule'))
        self._metrics = _explicit_metrics(self._drop)
        self._rules = dict(self._metrics)
        self._missing: set[str] = set()
        self._monitor = self._new_monitor()

    # Events of the run -------------------------------------------------------

    def before_run(self, runner: Any) -> None:
        """Ask to be called when training ends, however it ends."""
        if not is_training(runner):
            return
        for name, rule in _save_best(runner):
            if name != 'auto' and rule:
                self._rules.setdefault(name, rule)
        on_train_exit(runner, functools.partial(self._on_exit, runner))

    @_never_raises
    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Look at the scalars of this iteration."""
        progress = progress_after_iter(runner)
        context = functools.partial(training_context, runner)
        for announcement in self._monitor.after_iter(host_scalars(outputs), progress, context):
            _announce(runner, announcement)
        if progress.iter % self.interval == 0:
            self._write(runner, 'running', epoch=progress.epoch, iter=progress.iter)

    @_never_raises
    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Look at the metrics of this validation and write the files."""
        if not is_training(runner):
            return
        scores = BestMetrics.scalars(metrics)
        self._watch(runner, scores)
        progress = progress_between(runner)
        context = functools.partial(training_context, runner)
        for announcement in self._monitor.after_val(scores, progress, context):
            _announce(runner, announcement)
        self._write(runner, 'running', epoch=progress.epoch, iter=progress.iter)

    @_never_raises
    def _on_exit(self, runner: Any, reason: str, error: BaseException | None) -> None:
        for announcement in self._monitor.close():
            _announce(runner, announcement)
        progress = progress_between(runner)
        path = self._write(runner, describe_end(runner, reason, error), reason=reason, epoch=progress.epoch,
                           iter=progress.iter)
        if path is not None:
            runner.logger.info(f'Statistics of this training are in {path}.')

    # State -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, detectors and events in plain types."""
        return self._monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; one that cannot be read is left out with a warning."""
        try:
            self._monitor.load_state_dict(state)
        except Exception as error:
            # Statistics are no reason to lose a resume; and a part of a state is worse than none.
            self._monitor = self._new_monitor()
            print_log(f'TrainingMonitorHook starts anew, its saved state cannot be read: {error!r}',
                      logger='current', level=logging.WARNING)

    # Parts -------------------------------------------------------------------

    def _new_monitor(self) -> TrainingMonitor:
        detectors: dict[str, Any] = {}
        # NaN first: where there is one, it is the news.
        if self._nan:
            detectors['non_finite'] = NonFiniteDetector()
        if self._spike is not None:
            detectors['spike'] = SpikeDetector(**self._spike)
        threshold = self._drop.get('threshold') if self._drop else None
        return TrainingMonitor(detectors, threshold, self._rule_of)

    def _rule_of(self, metric: str) -> str | None:
        try:
            return self._rules.get(metric) or self._rules.get(metric.split('/')[-1]) or infer_rule(metric)
        except ValueError:
            return None

    def _watch(self, runner: Any, scores: Mapping[str, float]) -> None:
        """Look for drops of the metrics asked for, as soon as a validation shows their full names."""
        if self._drop is None or not scores:
            return
        if self._metrics:
            for asked, rule in self._metrics.items():
                name = _full_name(asked, scores)
                if name is not None:
                    self._monitor.watch(name, rule)
                elif asked not in self._missing:
                    self._missing.add(asked)
                    runner.logger.warning(
                        f'performance_drop: metric={asked!r} is not among the metrics of this validation, '
                        f'so it is not watched. {near_matches(asked, scores)}')
            return
        for name, rule in _save_best(runner):
            name = next(iter(scores)) if name == 'auto' else name
            if (rule or self._rule_of(name)) == 'greater':
                self._monitor.watch(name, 'greater')

    def _write(self, runner: Any, status: str, reason: str = 'running', **done: int) -> Path | None:
        if not is_main_process():
            return None
        report = {
            'version': 1, 'work_dir': str(runner.work_dir), 'status': status, 'reason': reason, **done,
            'written_at': time.strftime('%Y-%m-%d %H:%M:%S'), 'monitor_failures': self.failures,
            **self._monitor.summary(),
        }
        path = Path(runner.work_dir) / 'training_stats.txt'
        write_atomically(path, to_text(report))
        write_atomically(path.with_suffix('.json'), to_json(report) + '\n')
        return path


def training_context(runner: Any) -> TrainingContext:
    """Read the settings that advice refers to from a runner in training."""
    wrapper = runner.optim_wrapper
    lrs = [float(lr) for name, group in wrapper.get_lr().items() if not name.endswith('base_lr')
           for lr in group]
    amp = isinstance(wrapper, AmpOptimWrapper)
    return TrainingContext(
        lr=max(lrs, default=None),
        max_norm=(getattr(wrapper, 'clip_grad_kwargs', None) or {}).get('max_norm'),
        batch_size=getattr(runner.train_dataloader, 'batch_size', None),
        amp_dtype=str(wrapper.cast_dtype or 'float16').replace('torch.', '') if amp else None)


def describe_end(runner: Any, reason: str, error: BaseException | None) -> str:
    """Say in words how a training ended."""
    if reason == 'exception':
        return f'ended by an exception: {type(error).__name__}: {error}'
    if isinstance(error, KeyboardInterrupt):
        return 'ended by Ctrl-C (SIGINT)'
    if isinstance(error, SystemExit):
        return 'ended by SIGTERM' if error.code == 143 else f'ended by SystemExit with status {error.code}'
    early = getattr(runner.train_loop, 'stop_training', False)
    return 'finished early: a hook stopped the training' if early else 'finished'


def _announce(runner: Any, announcement: Announcement) -> None:
    lines = [announcement.text, *(f'  - {line}' for line in announcement.advice)]
    rank = get_rank()
    if rank == 0:
        level = logging.INFO if announcement.severity == 'info' else logging.WARNING
        runner.logger.log(level, '\n'.join(lines))
    elif announcement.severity == 'error':
        # Loggers of other ranks show errors only; what went wrong on one rank is seen nowhere else.
        runner.logger.error(f'[rank {rank}] {lines[0]}')


def _arguments(name: str, given: Switch, known: Iterable[str]) -> dict[str, Any] | None:
    """Return the arguments that a switch stands for, or None if it is off."""
    if isinstance(given, bool):
        return {} if given else None
    if not isinstance(given, Mapping):
        raise ValueError(f'{name} must be True, False or a dict of arguments, but got {given!r}.')
    for key in given:
        if key not in known:
            raise ValueError(f'{name} has no argument {key!r}. {near_matches(key, known)}')
    return dict(given)


def _explicit_metrics(drop: Mapping[str, Any] | None) -> dict[str, Any]:
    """Map each metric asked for to its rule; empty if none is named."""
    asked = (drop or {}).get('metric') or []
    names = [asked] if isinstance(asked, str) else list(asked)
    return {name: infer_rule(name, (drop or {}).get('rule')) for name in names}


def _save_best(runner: Any) -> list[tuple[str, str | None]]:
    """Return metric and rule of each ``save_best`` of the checkpoint hooks; a rule may not be known yet."""
    return [pair for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best
            for pair in zip(hook.key_indicators, hook.rules)]


def _full_name(asked: str, scores: Mapping[str, float]) -> str | None:
    """Find ``asked``, or the only metric that it is the last part of, as in ``coco/AP``."""
    if asked in scores:
        return asked
    matches = [name for name in scores if name.endswith(f'/{asked}')]
    return matches[0] if len(matches) == 1 else None
