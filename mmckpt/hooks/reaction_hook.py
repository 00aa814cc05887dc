"""Acts on what the monitor finds: leaves updates out, stops, or goes back to a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log

from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.nan_cases import NanCases
from mmckpt.hooks.reaction_acts import Due, rollback_event, say_rollback, say_skip, stop
from mmckpt.hooks.rollback import RollbackLog, check_rollback, find_target, roll_back, rollbacks_of_run
from mmckpt.hooks.runner_adapter import (
    SharedFlag,
    gather_objects,
    on_train_exit,
    progress_after_iter,
    unwrapped_model,
)
from mmckpt.hooks.step_guard import StepGuard, Window
from mmckpt.monitor import SpikeDetector
from mmckpt.monitor.finding import Finding
from mmckpt.policy.reaction import Reaction, SkipCount
from mmckpt.progress import Progress


class ReactionHook(Hook):
    """Carries out ``on_nan``, ``on_spike`` and ``on_divergence`` of ``TrainingMonitorHook``, which registers it.

    A skipped update leaves weights, optimizer and BN statistics as they were.
    All else goes on as if it had been applied: iterations are counted,
    iteration-based schedulers step, so that the schedule stays a function of
    the iteration, and an EMA averages the unchanged weights once more.

    Args:
        reactions (dict[str, Reaction]): For ``'nan'``, ``'spike'`` and ``'divergence'``.
        spike (SpikeDetector, optional): Judges the mean total loss of a
            window, if ``'spike'`` leads to more than a warning. Defaults to None.
        locator (NanCases, optional): Looks for the cause of a loss or gradient
            that is not finite. Defaults to None.
    """

    # After all other hooks of the iteration: a checkpoint made here holds their state.
    priority = 'LOWEST'

    def __init__(self, reactions: Mapping[str, Reaction], spike: SpikeDetector | None = None,
                 locator: NanCases | None = None) -> None:
        self.reactions = dict(reactions)
        self.spike = spike
        self.locator = locator
        self.skips = SkipCount()
        self.rollbacks = RollbackLog()
        self._guard: StepGuard | None = None
        self._flag: SharedFlag | None = None
        self._due: Due | None = None
        self._diverged: tuple[int, str] | None = None
        self._gathered: list[Any] = []
        self._window: dict[str, Any] | None = None
        self._going_back = False
        self._done = Progress(0, 0)

    # Events ------------------------------------------------------------------

    def before_train(self, runner: Any) -> None:
        """Put the guard before the step; check what a rollback needs."""
        for cause, reaction in self.reactions.items():
            if reaction.type == 'rollback':
                check_rollback(runner, f'on_{cause}')
        if self._guard is None:
            self._install(runner)
        window, self._window = self._window, None
        self._guard.load_window_state(window)
        self._learn_of_rollbacks(runner)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the state before the batch."""
        self._done = progress_after_iter(runner)
        self._guard.before_iter(runner.iter)
        if self.locator is not None:
            self.locator.before_iter(data_batch)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Do what is due."""
        self._agree_on_divergence()
        due, self._due = self._due, None
        if due is None:
            return
        if due.reaction.type == 'skip':
            self._go_on_without(runner, due)
        elif due.reaction.type == 'stop':
            stop(runner, due, due.text)
        else:
            self._go_back(runner, due)

    def gather_checkpoint_state(self, runner: Any) -> None:
        """Collect the windows at hand; ``mmckpt.CheckpointHook`` calls it on every rank."""
        self._gathered = gather_objects(self._guard.window_state())

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Put the window of each rank into the checkpoint, if it is made inside one."""
        gathered, self._gathered = self._gathered, []
        if any(gathered):
            envelope(checkpoint)['windows'] = gathered

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the window of this rank until ``before_train``."""
        windows = checkpoint.get('mmckpt', {}).get('windows') or []
        self._window = windows[get_rank()] if len(windows) == get_world_size() else None

    # Where a strategy writes and loads, which need not tell hooks.
    add_checkpoint_state = before_save_checkpoint
    take_checkpoint_state = after_load_checkpoint

    def notice(self, findings: Iterable[Finding]) -> None:
        """Take what the detectors have found at this iteration on this rank."""
        for finding in findings:
            if finding.kind == 'divergence' and self._diverged is None:
                start = int(finding.numbers.get('start', finding.progress.iter))
                self._diverged = max(0, start - 1), finding.message.rstrip('.')

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate."""
        if self.spike is not None:
            self.spike.expect_rise(progress)

    def leaves_out(self, iteration: int) -> bool:
        """Whether a rollback has planned to leave the update of an iteration (completed, it included) out."""
        return self.rollbacks.leaves_out(iteration - 1, iteration)

    # State -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return counters and rollbacks in plain types."""
        return {'version': 1, 'skips': self.skips.state_dict(), 'rollbacks': self.rollbacks.state_dict(),
                'spike': None if self.spike is None else self.spike.state_dict(),
                'located': [] if self.locator is None else list(self.locator.found)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; a rollback keeps what was counted since."""
        if self.spike is not None and state['spike'] is not None:
            self.spike.load_state_dict(state['spike'])
        self.rollbacks.load_state_dict(state['rollbacks'], going_back=self._going_back)
        if not self._going_back:
            self.skips.load_state_dict(state['skips'])
            if self.locator is not None:
                self.locator.found = list(state.get('located', []))

    def summary(self) -> dict[str, Any]:
        """Return skipped updates and rollbacks for the report."""
        return {'skipped_updates': self.skips.total, 'skipped_by_cause': dict(self.skips.by_cause),
                'rollbacks': list(self.rollbacks.events),
                **({} if self.locator is None else {'located_nan': list(self.locator.found)})}

    # Parts -------------------------------------------------------------------

    def _install(self, runner: Any) -> None:
        try:
            self._guard = StepGuard(unwrapped_model(runner), runner.optim_wrapper, self._judge, self._on_bad_loss)
        except TypeError as error:
            asked = [f'on_{cause}={r.type!r}' for cause, r in self.reactions.items() if r.type != 'warn']
            raise ValueError(f'TrainingMonitorHook({", ".join(asked) or "locate_nan=True"}): {error}. Use an '
                             "OptimWrapper, or 'warn' and locate_nan=False.") from None
        on_train_exit(runner, lambda reason, error: self._remove())
        if self.reactions['divergence'].type != 'warn':
            self._flag = SharedFlag()
        if self.locator is not None:
            self.locator.prepare(runner, self._guard)

    def _learn_of_rollbacks(self, runner: Any) -> None:
        """Take rollbacks that this run made after the checkpoint from which a new process goes on."""
        if not self._going_back and any(reaction.type == 'rollback' for reaction in self.reactions.values()):
            if self.rollbacks.learn(rollbacks_of_run(runner)):
                self.rollbacks.apply_lr(runner.optim_wrapper, runner.param_schedulers)

    def _remove(self) -> None:
        if self._guard is not None:
            self._guard.remove()
            self._guard = None

    def _on_bad_loss(self) -> None:
        if self.locator is not None:
            self.locator.suspect()
        if self.reactions['nan'].type != 'warn':
            # At once, not only with the update: an EMA would average them in after this iteration.
            self._guard.buffers.put_back()

    def _judge(self, window: Window) -> bool:
        """Return whether the update of a window is dropped, and note what else is to be done."""
        if self.rollbacks.leaves_out(window.start, self._done.iter):
            self.skips.left_out()
            if self.locator is not None:
                self.locator.forget()
            return True
        cause = self._cause(window)
        if cause == 'nan' and self.locator is not None:
            self.locator.look(self._done)
        reaction = self.reactions.get(cause or '', Reaction())
        if reaction.type == 'warn':
            self.skips.applied()
            return False
        self.skips.dropped(cause)
        what = 'the loss jumped to' if cause == 'spike' else 'loss'
        text = (f'{what} {window.loss:.6g}, gradient norm {window.gradient:.3g}' if cause == 'nan'
                else f'{what} {window.loss:.6g}')
        self._due = Due(cause, reaction, window.start, text)
        return True

    def _cause(self, window: Window) -> str | None:
        if window.non_finite:
            return 'nan'
        if self.spike is None or not math.isfinite(window.loss):
            return None
        found = self.spike.update({'loss': window.loss}, self._done)
        # Healthy runs have infos too.
        return 'spike' if any(f.kind == 'loss_spike' and f.severity != 'info' for f in found) else None

    def _agree_on_divergence(self) -> None:
        if self._flag is None or not self._flag.update(self._diverged is not None):
            return
        # Seen by all ranks at the same iteration, so that they may talk to each other now.
        found = sorted(filter(None, gather_objects(self._diverged)))
        self._diverged = None
        if found and (self._due is None or self._due.reaction.type == 'skip'):
            self._due = Due('divergence', self.reactions['divergence'], *found[0])

    def _go_on_without(self, runner: Any, due: Due) -> None:
        most = due.reaction.max_skips
        if self.skips.in_a_row > most:
            stop(runner, due, f'{due.text}; {self.skips.in_a_row} updates in a row were dropped, max_skips={most}')
        say_skip(runner.logger, due, self.skips, self._done.iter)

    def _go_back(self, runner: Any, due: Due) -> None:
        done, most = self.rollbacks.count, due.reaction.max_rollbacks
        if done >= most:
            stop(runner, due, f'{due.text}; there were {done} rollbacks before, max_rollbacks={most}')
        target = find_target(runner, due.before)
        if target is None:
            stop(runner, due, f'{due.text}; there is no valid checkpoint from before it to go back to')
        event = rollback_event(due, target, self._done.iter)
        say_rollback(runner.logger, event, done + 1, most)
        self.rollbacks.add(event)
        runner.train_loop.rewind(partial(self._restore, runner, target.name, event))

    def _restore(self, runner: Any, name: str, event: Mapping[str, Any]) -> None:
        self._guard.forget_window()
        self.rollbacks.begin_restore()
        self._going_back = True
        try:
            roll_back(runner, name, event)
        finally:
            self._going_back = False
        self.rollbacks.apply_lr(runner.optim_wrapper, runner.param_schedulers)
        self.skips.in_a_row = 0
        self._diverged = None
        print_log(f'Training goes on from iteration {runner.iter}.', 'current')
