"""``interval='auto'``: measures what saving costs and decides when the next save is due."""

from __future__ import annotations

import time
from typing import Any

from mmckpt.hooks.runner_adapter import broadcast_object
from mmckpt.policy.auto_interval import FIRST_SAVE, AutoInterval
from mmckpt.progress import Progress


class AutoSchedule:
    """Turns :class:`AutoInterval` into decisions that all ranks share.

    Iterations are timed on the host, from end to end, without those in which
    something was saved or validated. Rank 0 decides at each save when the
    next one is due; no iteration costs a message.

    Args:
        policy (AutoInterval): The rule.
    """

    def __init__(self, policy: AutoInterval) -> None:
        self.policy = policy
        self._next: int | None = None
        self._last_end: float | None = None
        self._said = 0

    def after_iter(self) -> None:
        """Take in the time since the last iteration ended."""
        now = time.perf_counter()
        if self._last_end is not None:
            self.policy.observe_iter(now - self._last_end)
        self._last_end = now

    def interrupted(self) -> None:
        """Leave the running iteration out: something else took its time."""
        self._last_end = None

    def due(self, progress: Progress) -> bool:
        """Whether a save is due at this step."""
        if self._next is None:
            self._next = progress.iter - 1 + FIRST_SAVE
        return progress.iter >= self._next

    def saved(self, runner: Any, progress: Progress, blocked: float, written: float) -> None:
        """Take in a save and choose the next; call it on every rank.

        Args:
            runner (Runner): The runner.
            progress (Progress): Completed counts at the save.
            blocked (float): Seconds for which training stood still.
            written (float): Seconds of the last write.
        """
        self.policy.observe_save(blocked, written)
        interval = broadcast_object(self.policy.interval())
        self._next = progress.iter + interval
        self.interrupted()
        if not self._said / 1.25 <= interval <= self._said * 1.25:
            self._said = interval
            runner.logger.info(f'Saving {self.policy.describe()}.')
