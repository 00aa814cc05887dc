"""Writes the state of a step once, links its other names to it, and completes its record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Callable

from mmengine.dist import is_main_process

from mmckpt.hooks.auto_schedule import AutoSchedule
from mmckpt.hooks.capture import StateCapture
from mmckpt.hooks.claims import Claim, Claims
from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.rank_state import RankState
from mmckpt.hooks.runner_adapter import broadcast_object
from mmckpt.hooks.strategy_save import StrategySave, writes_itself
from mmckpt.hooks.validation_delta import ValidationDelta
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore, Record

# Scores and rules by the name of a selection.
Judged = dict[str, dict[str, Any]]
# With keep=-1 a run may have thousands of bests.
MOST_NOTES = 500


class _Written:
    """Names of one file, and what changes in the training state after it was captured."""

    def __init__(self, name: str, runner: Any) -> None:
        self.names = [name]
        self.delta = ValidationDelta(runner) if is_main_process() else None


class StepWriter:
    """The files of the step that was saved last.

    There is one, to which the further names are linked, and seldom another
    one with (or without) the optimizer. Every method is called on every rank;
    only rank 0 has a store.

    Args:
        capture (StateCapture): Builds the checkpoint dict.
        store (CheckpointStore, optional): The open store, or None on other ranks.
        schedule (AutoSchedule, optional): Told what each save costs.
    """

    def __init__(self, capture: StateCapture, store: CheckpointStore | None, schedule: AutoSchedule | None) -> None:
        self.capture = capture
        self.store = store
        self.schedule = schedule
        self._strategy = StrategySave(capture) if writes_itself(capture.runner) else None
        self.rank_state = RankState()
        self.claims = Claims(store)
        self._progress: Progress | None = None
        # By whether the optimizer is in the file.
        self._written: dict[bool, _Written] = {}

    def is_full(self, save_optimizer: bool | None) -> bool:
        """Whether the optimizer is in a file of which this was asked."""
        return self.capture.save_optimizer if save_optimizer is None else save_optimizer

    def has(self, progress: Progress, save_optimizer: bool | None = None) -> bool:
        """Whether a file of this step was written, which other names can be linked to."""
        return self._progress == progress and self.is_full(save_optimizer) in self._written

    def wrote(self, progress: Progress) -> bool:
        """Whether any file of this step was written."""
        return self._progress == progress and bool(self._written)

    def adopt(self, name: str, progress: Progress) -> None:
        """Take a file that an earlier process wrote for the step at hand."""
        self._progress, self._written = progress, {self.capture.save_optimizer: _Written(name, self.capture.runner)}

    def write(self, name: str, progress: Progress, *, roles: tuple[str, ...], judged: Judged | None = None,
              val_pending: bool = False, point_last: bool = True, save_optimizer: bool | None = None,
              claims: Sequence[Claim] = ()) -> bool:
        """Write the state of a step; a save that failed leaves no step to link to.

        Args:
            name (str): File name.
            progress (Progress): Completed counts.
            roles (tuple[str]): What the file is kept for.
            judged (dict, optional): ``scores`` and ``rules`` of each best role. Defaults to None.
            val_pending (bool): Whether a validation is due right after this step. Defaults to False.
            point_last (bool): Whether ``last_checkpoint`` shall name it. Defaults to True.
            save_optimizer (bool, optional): Whether the optimizer is in it. Defaults to None, as always.
            claims (Sequence[Claim]): What is said of the file. Defaults to nothing.

        Returns:
            bool: Whether the file is written, or on its way in the background.
        """
        started = time.perf_counter()
        runner = self.capture.runner
        full = self.is_full(save_optimizer)
        # A collective, so on every rank: before_save_checkpoint is called on rank 0 only.
        runner.call_hook('gather_checkpoint_state')
        self.rank_state.gather(runner)
        if self._progress != progress:
            self._progress, self._written = progress, {}
        self._written[full] = _Written(name, runner)
        saved = False
        state = self._state(name, progress, roles, judged or {}, val_pending, full)
        if self.store is not None:
            saved = self.store.write(name, state, progress=progress, roles=roles, val_pending=val_pending,
                                     point_last=point_last, on_end=_ends(claims), **(judged or {}))
        # All ranks must agree on what there is to link.
        saved = broadcast_object(saved)
        if not saved:
            del self._written[full]
        if self.schedule is not None:
            written = self.store.last_write_seconds if self.store is not None else 0.0
            self.schedule.saved(runner, progress, time.perf_counter() - started, written)
        return saved

    def _state(self, name: str, progress: Progress, roles: tuple[str, ...], judged: Judged, val_pending: bool,
               full: bool) -> Any:
        """What is to be written; where all ranks write, they have done so, and rank 0 has it to hand over."""
        ranks, notes = self.rank_state.state(), []
        if self.store is not None:
            notes = best_notes(self.store.records_of_run(), name, progress, roles, judged)
        if self._strategy is not None or self.claims.skips_next:
            staged = None if self.store is None else self.store.stage_checkpoint(name, skip=self.claims.skips_next)
            if self._strategy is None:
                return staged
            return self._strategy.write(staged, progress, val_pending, full, ranks, notes)
        if self.store is None:
            return None
        state = self.capture(progress, val_pending, full)
        envelope(state).update(ranks=ranks, bests=notes)
        return state

    def place(self, name: str, progress: Progress, *, roles: tuple[str, ...], judged: Judged,
              save_optimizer: bool | None = None, point_last: bool = False, claims: Sequence[Claim] = ()) -> bool:
        """Let a file have the state of this step: a link if it is written already.

        Args:
            name (str): File name.
            progress (Progress): Completed counts.
            roles (tuple[str]): What the file is kept for.
            judged (dict): ``scores`` and ``rules`` of each best role.
            save_optimizer (bool, optional): Whether the optimizer is in it. Defaults to None, as always.
            point_last (bool): Whether ``last_checkpoint`` shall name it. Defaults to False.
            claims (Sequence[Claim]): What is said of the file. Defaults to nothing.

        Returns:
            bool: As :meth:`write`.
        """
        full = self.is_full(save_optimizer)
        written = self._written.get(full) if self._progress == progress else None
        if written is None:
            return self.write(name, progress, roles=roles, judged=judged, point_last=point_last, save_optimizer=full,
                              claims=claims)
        if self.store is not None:
            self.store.link(written.names[0], name, roles=roles, point_last=point_last, on_end=_ends(claims), **judged)
        written.names.append(name)
        return True

    def complete(self, metrics: dict[str, float]) -> None:
        """Put what the validation of this step changed into the records of its files."""
        unsettled = list(self.claims.open)
        for written in self._written.values():
            if self.store is not None and written.delta is not None:
                self.store.amend(written.names, metrics=metrics, val_pending=False,
                                 post_validation=partial(_without_lost, written.delta.collect(metrics), unsettled))
        self._progress, self._written = None, {}

    def make_way(self) -> None:
        """Wait until the files before are written, so that the next one is not left out for them."""
        if self.store is not None:
            self.store.join()

    def wait(self) -> None:
        """Wait until this rank has written its part of what all ranks write."""
        if self._strategy is not None:
            self._strategy.wait()

    def write_at_exception(self, progress: Progress, error: BaseException | None) -> None:
        """Save what there is, on this rank alone: the others may never come to a collective."""
        if self.store is None or self.has(progress) or self._strategy is not None:
            return
        self.claims.settle_alone()
        state = self.capture(progress, val_pending=False)
        envelope(state)['inexact'] = f'it was made when training ended by {type(error).__name__}: {error}'
        self.store.write(f'exception_iter_{progress.iter}.pth', state, progress=progress, roles=('exception',),
                         point_last=False)


def _ends(claims: Sequence[Claim]) -> Callable[[bool], None]:
    def end(committed: bool) -> None:
        for claim in claims:
            claim.end(committed)

    return end


def _without_lost(delta: dict[str, Any], claims: Sequence[Claim]) -> dict[str, Any]:
    """What a validation changed, without the bests whose files are known by now to be lost."""
    lost = {key for claim in claims if claim.committed is False for key in claim.hub_keys}
    return dict(delta, infos={key: value for key, value in delta['infos'].items() if key not in lost})


def best_notes(records: Sequence[Record], name: str, progress: Progress, roles: tuple[str, ...],
               judged: Judged) -> list[dict[str, Any]]:
    """Return what a rebuilt index cannot know otherwise: which files are bests, and their scores.

    It travels in every file, since the index may be lost.

    Args:
        records (Sequence[Record]): Records of this run.
        name (str): The file about to be written.
        progress (Progress): Its step.
        roles (tuple[str]): Its roles.
        judged (dict): Its ``scores`` and ``rules``.

    Returns:
        list[dict]: ``name``, ``epoch``, ``iter``, ``roles``, ``scores``, ``rules`` and ``metrics`` of each best.
    """
    notes = [dict(name=r.name, epoch=r.epoch, iter=r.iter, roles=list(r.roles), scores=dict(r.scores),
                  rules=dict(r.rules), metrics=dict(r.metrics))
             for r in records if r.name != name and r.scores]
    if judged:
        notes.append(dict(name=name, epoch=progress.epoch, iter=progress.iter, roles=list(roles),
                          scores=dict(judged['scores']), rules=dict(judged['rules']), metrics={}))
    return notes[-MOST_NOTES:]
