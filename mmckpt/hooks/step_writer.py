"""Writes the state of a step once, links its other names to it, and completes its record."""

from __future__ import annotations

import time

from mmengine.dist import is_main_process

from mmckpt.hooks.auto_schedule import AutoSchedule
from mmckpt.hooks.capture import StateCapture
from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.rank_state import RankState
from mmckpt.hooks.runner_adapter import broadcast_object
from mmckpt.hooks.validation_delta import ValidationDelta
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore


class StepWriter:
    """The files of the step that was saved last.

    Every method is called on every rank; only rank 0 has a store.

    Args:
        capture (StateCapture): Builds the checkpoint dict.
        store (CheckpointStore, optional): The open store, or None on other ranks.
        schedule (AutoSchedule, optional): Told what each save costs.
    """

    def __init__(self, capture: StateCapture, store: CheckpointStore | None, schedule: AutoSchedule | None) -> None:
        self.capture = capture
        self.store = store
        self.schedule = schedule
        self.rank_state = RankState()
        self._progress: Progress | None = None
        self._names: list[str] = []
        self._delta: ValidationDelta | None = None

    def has(self, progress: Progress) -> bool:
        """Whether a file of this step was written, which other names can be linked to."""
        return self._progress == progress

    def adopt(self, name: str, progress: Progress) -> None:
        """Take a file that an earlier process wrote for the step at hand."""
        self._begin(name, progress)

    def write(self, name: str, progress: Progress, *, roles: tuple[str, ...], scores: dict[str, float] | None = None,
              val_pending: bool = False, point_last: bool = True) -> None:
        """Write the state of a step; a save that failed leaves no step to link to.

        Args:
            name (str): File name.
            progress (Progress): Completed counts.
            roles (tuple[str]): What the file is kept for.
            scores (dict, optional): Score of each best role. Defaults to None.
            val_pending (bool): Whether a validation is due right after this step. Defaults to False.
            point_last (bool): Whether ``last_checkpoint`` shall name it. Defaults to True.
        """
        started = time.perf_counter()
        runner = self.capture.runner
        # A collective, so on every rank: before_save_checkpoint is called on rank 0 only.
        runner.call_hook('gather_checkpoint_state')
        self.rank_state.gather(runner)
        self._begin(name, progress)
        saved = False
        if self.store is not None:
            state = self.capture(progress, val_pending)
            envelope(state)['ranks'] = self.rank_state.state()
            saved = self.store.write(name, state, progress=progress, roles=roles, scores=scores,
                                     val_pending=val_pending, point_last=point_last)
        # All ranks must agree on what there is to link.
        if not broadcast_object(saved):
            self._progress = None
        if self.schedule is not None:
            written = self.store.last_write_seconds if self.store is not None else 0.0
            self.schedule.saved(runner, progress, time.perf_counter() - started, written)

    def link(self, name: str, *, roles: tuple[str, ...], scores: dict[str, float], point_last: bool = False) -> None:
        """Give the file of this step one more name."""
        if self.store is not None:
            self.store.link(self._names[0], name, roles=roles, scores=scores, point_last=point_last)
        self._names.append(name)

    def complete(self, metrics: dict[str, float]) -> None:
        """Put what the validation of this step changed into the records of its files."""
        if self.store is not None and self._delta is not None:
            self.store.amend(self._names, metrics=metrics, val_pending=False,
                             post_validation=self._delta.collect(metrics))
        self._progress = self._delta = None

    def write_at_exception(self, progress: Progress, error: BaseException | None) -> None:
        """Save what there is, on this rank alone: the others may never come to a collective."""
        if self.store is None or self.has(progress):
            return
        state = self.capture(progress, val_pending=False)
        envelope(state)['inexact'] = f'it was made when training ended by {type(error).__name__}: {error}'
        self.store.write(f'exception_iter_{progress.iter}.pth', state, progress=progress, roles=('exception',),
                         point_last=False)

    def _begin(self, name: str, progress: Progress) -> None:
        self._progress, self._names = progress, [name]
        self._delta = ValidationDelta(self.capture.runner) if is_main_process() else None
