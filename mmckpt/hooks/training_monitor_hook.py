"""Watches a training and says what goes wrong while it goes wrong."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.monitor_context import describe_end, training_context
from mmckpt.hooks.monitor_metrics import WatchedMetrics
from mmckpt.hooks.monitor_outputs import MonitorOutputs
from mmckpt.hooks.monitor_statistics import StatisticsFiles
from mmckpt.hooks.monitor_switches import Switch, arguments_of_switch, build_detectors, check_switches
from mmckpt.hooks.monitor_watch import TrainingWatch
from mmckpt.hooks.reaction_arguments import Action, build_reactions
from mmckpt.hooks.runner_adapter import (
    is_training,
    on_train_exit,
    progress_after_epoch,
    progress_after_iter,
    progress_between,
)
from mmckpt.monitor import Noticed, TrainingContext, TrainingMonitor
from mmckpt.monitor.events import Announcement
from mmckpt.monitor.training_monitor import NOTHING
from mmckpt.progress import Progress
from mmckpt.registry import HOOKS


def _never_raises(event: Callable[..., None]) -> Callable[..., None]:
    """Keep a failure of the monitor from stopping the training: count it, log the first one."""

    @functools.wraps(event)
    def guarded(self: TrainingMonitorHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        try:
            event(self, runner, *args, **kwargs)
        except Exception:
            self._failed(runner, event.__name__)

    return guarded


@HOOKS.register_module()
class TrainingMonitorHook(Hook):
    """Says what goes wrong in a training, with numbers and causes, and keeps statistics of the run.

    It writes ``training_stats.txt`` and ``training_stats.json`` into the work
    directory at every validation, every ``interval`` iterations and when
    training ends, be it by an exception, SIGTERM or Ctrl-C. Each event is said
    once, with its numbers and what to look at; repeats are summed up. It acts
    only where ``on_nan``, ``on_spike`` or ``on_divergence`` say so. With
    ``mmckpt.CheckpointHook`` its state survives a resume.

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
        on_nan (str or dict): What a loss or gradient that is not finite leads
            to. ``'warn'``; ``'skip'``: its update is not applied, and BN
            statistics go back (``dict(type='skip', max_skips=10)``);
            ``'stop'``: the state without it is saved, and the process leaves
            with exit status 76; ``'rollback'``: back to the newest checkpoint
            before it (``dict(type='rollback', skip_iters=1, lr_factor=1.0,
            max_rollbacks=3)``), which needs a train loop of ours. All but
            'warn' make the host wait for the device once an iteration.
            Defaults to 'warn'.
        on_spike (str or dict): The same for a spike of the total loss, judged
            before its update is applied, over all ranks; not for a lone value
            that is an info only. Defaults to 'warn'.
        on_divergence (str or dict): The same for a divergence, without
            'skip'. Defaults to 'warn'.
        locate_nan (bool or dict): Whether the module or gradient that was not
            finite first is looked for, by running the batch again before its
            update, and the case kept in ``work_dir/nan_ITER`` for ``mmckpt
            replay``; ``dict(max_cases=2)`` bounds the disk. Makes the host
            wait as above. Defaults to False.
        report (bool): Whether ``report.html`` is made in the work directory
            when training ends, whatever the end. Defaults to True.
        notify (list[dict]): Who is told besides the log, such as
            ``[dict(type='webhook', url_env='MMCKPT_WEBHOOK')]``; see
            :func:`mmckpt.monitor.notify.read_channels`. Defaults to ().
        **detectors (bool or dict): Switches of the other detectors, all on by
            default: ``divergence``, ``loss_terms``, ``gradients``, ``plateau``,
            ``zero_metric``, ``overfitting``, ``learning_rate``,
            ``idle_parameters``, ``slow_data``, ``slowing``, ``memory`` and
            ``gpu_idle``; a dict holds arguments of the detector's class in
            ``mmckpt.monitor``, such as ``plateau=dict(rounds=20)``.

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
                 interval: int = 500, on_nan: Action = 'warn', on_spike: Action = 'warn',
                 on_divergence: Action = 'warn', locate_nan: bool | Mapping[str, Any] = False, report: bool = True,
                 notify: Sequence[Mapping[str, Any]] = (), **detectors: Switch) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1 iteration, but got {interval}.')
        self.interval = interval
        self.failures = 0
        self._is_training = False
        check_switches(detectors)
        self._switches = {'spike': spike, 'nan': nan, **detectors}
        self._drop = arguments_of_switch('performance_drop', performance_drop, ('metric', 'threshold', 'rule'))
        self._metrics = WatchedMetrics(self._drop)
        self._reactions = build_reactions(on_nan, on_spike, on_divergence, self._switches, locate_nan)
        self._monitor = self._new_monitor()
        self._outputs = MonitorOutputs(report, notify)
        self._watch: TrainingWatch | None = None
        self._loaded_lr: float | None = None
        self._context: Callable[[], TrainingContext] = TrainingContext
        self._files = StatisticsFiles()

    # Events of the run -------------------------------------------------------

    def before_run(self, runner: Any) -> None:
        """Ask to be called when training ends, however it ends."""
        if not is_training(runner):
            return
        self._metrics.learn_rules(runner)
        # When the store is closed, all saves are counted.
        on_train_exit(runner, functools.partial(self._on_exit, runner), last=True)
        if self._reactions is not None and self._reactions not in runner.hooks:
            runner.register_hook(self._reactions)

    @_never_raises
    def before_train(self, runner: Any) -> None:
        """Begin the journal, and find out where values can be read and what can be measured."""
        self._is_training = True
        # The journal's end comes after that of the checkpoint hook, whose last saves belong to it.
        if self._outputs.begin(runner):
            on_train_exit(runner, functools.partial(self._after_exit, runner), last=True)
        if self._watch is not None:
            # After a rollback.
            self._watch.close()
        self._watch = TrainingWatch(runner, self, self._monitor.slow['probe'].get('idle_parameters'))
        self._take_lr()
        self._context = functools.partial(training_context, runner)

    @_never_raises
    def before_train_epoch(self, runner: Any) -> None:
        """Time nothing that lies between two epochs."""
        if self._watch is not None:
            self._watch.clock.restart()

    # These two are called so often that a wrapper would be a tenth of their cost.

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note that the batch is there, and what the schedule has done to the learning rate."""
        try:
            if self._watch is not None and self._watch.before_iter(runner):
                self._monitor.expect_rise(progress_between(runner))
                if self._reactions is not None:
                    self._reactions.expect_rise(progress_between(runner))
        except Exception:
            self._failed(runner, 'before_train_iter')

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Look at the scalars of this iteration."""
        try:
            if self._watch is not None:
                self._look(runner, self._watch, outputs)
        except Exception:
            self._failed(runner, 'after_train_iter')

    @_never_raises
    def after_train_epoch(self, runner: Any) -> None:
        """Look at the mean loss of this epoch."""
        progress = progress_after_epoch(runner)
        facts = {} if self._watch is None else self._watch.weights.look()
        self._pass_on(runner, self._monitor.after_epoch(progress, self._context, facts), progress)

    @_never_raises
    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Look at the metrics of this validation and write the files."""
        # A validation outside a training (`runner.val()`) is none of its results.
        if not self._is_training:
            return
        if self._watch is not None:
            self._watch.clock.restart()
        scores = BestMetrics.scalars(metrics)
        for name, rule in self._metrics.to_watch(runner, scores):
            self._monitor.watch(name, rule)
        progress = progress_between(runner)
        facts = {} if self._watch is None else self._watch.weights.look()
        self._pass_on(runner, self._monitor.after_val(scores, progress, self._context, facts), progress)
        self._write(runner, 'running', epoch=progress.epoch, iter=progress.iter)

    @_never_raises
    def _on_exit(self, runner: Any, reason: str, error: BaseException | None) -> None:
        self._is_training = False
        if self._watch is not None:
            self._watch.close()
        progress = progress_between(runner)
        self._pass_on(runner, self._monitor.close(), progress)
        path = self._write(runner, describe_end(runner, reason, error), reason=reason, epoch=progress.epoch,
                           iter=progress.iter)
        if path is not None:
            runner.logger.info(f'Statistics of this training are in {path}.')

    @_never_raises
    def _after_exit(self, runner: Any, reason: str, error: BaseException | None) -> None:
        path = self._outputs.end(runner, self._metrics.rule_of, describe_end(runner, reason, error), reason)
        if path is not None:
            runner.logger.info(f'The report of this training is {path}.')

    # State -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, detectors and events in plain types."""
        state, lr = self._monitor.state_dict(), self._loaded_lr if self._watch is None else self._watch.rate.lr
        return state if lr is None else dict(state, lr=lr)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; one that cannot be read is left out with a warning."""
        try:
            self._monitor.load_state_dict(state)
            self._loaded_lr = state.get('lr')
            self._take_lr()
        except Exception as error:
            # Statistics are no reason to lose a resume; and a part of a state is worse than none.
            self._monitor = self._new_monitor()
            print_log(f'TrainingMonitorHook starts anew, its saved state cannot be read: {error!r}',
                      logger='current', level=logging.WARNING)

    # Parts -------------------------------------------------------------------

    def _new_monitor(self) -> TrainingMonitor:
        threshold = self._drop.get('threshold') if self._drop else None
        slow = build_detectors(self._switches, self._metrics.rule_of)
        return TrainingMonitor(slow.pop('iter'), threshold, self._metrics.rule_of, slow)

    def _take_lr(self) -> None:
        # Between the last iteration of a file and the next one a schedule may have raised it.
        if self._watch is not None and self._loaded_lr is not None:
            self._watch.rate.lr = self._loaded_lr

    def _failed(self, runner: Any, event: str) -> None:
        """Count what an event has just raised, and log the first one."""
        self.failures += 1
        if self.failures == 1:
            runner.logger.exception(f'TrainingMonitorHook failed in {event}; training goes on. Further failures are '
                                    'counted in training_stats.txt, not logged.')

    def _look(self, runner: Any, watch: TrainingWatch, outputs: Any) -> None:
        progress = progress_after_iter(runner)
        self._outputs.after_step(runner, progress)
        if self._reactions is not None and self._reactions.leaves_out(progress.iter):
            return
        noticed = self._monitor.after_iter(watch.values(runner, outputs), progress, self._context)
        if noticed is not NOTHING:
            self._pass_on(runner, noticed, progress)
        for name, measured in watch.after_iter(runner, progress.iter):
            self._pass_on(runner, self._monitor.probe(name, measured, progress, self._context), progress)
            self._outputs.measured(runner, name, measured, progress)
        if progress.iter % self.interval == 0:
            self._write(runner, 'running', epoch=progress.epoch, iter=progress.iter)

    def _pass_on(self, runner: Any, noticed: Noticed, progress: Progress) -> None:
        """All that the monitor notices comes through here, in every event: findings and what to say of them."""
        if self._reactions is not None:
            self._reactions.notice(noticed.findings)
        for announcement in noticed.announcements:
            _announce(runner, announcement)
        self._outputs.take(runner, noticed, progress)

    def _write(self, runner: Any, status: str, reason: str = 'running', **done: int) -> Path | None:
        if not is_main_process():
            return None
        reacted = {'skipped_updates': 0} if self._reactions is None else self._reactions.summary()
        report = {'status': status, 'reason': reason, **done, 'monitor_failures': self.failures,
                  **self._monitor.summary(), **reacted}
        return self._files.write(runner, report)


def _announce(runner: Any, announcement: Announcement) -> None:
    lines = [announcement.text, *(f'  - {line}' for line in announcement.advice)]
    rank = get_rank()
    if rank == 0:
        level = logging.INFO if announcement.severity == 'info' else logging.WARNING
        runner.logger.log(level, '\n'.join(lines))
    elif announcement.severity == 'error':
        # Loggers of other ranks show errors only; what went wrong on one rank is seen nowhere else.
        runner.logger.error(f'[rank {rank}] {lines[0]}')
