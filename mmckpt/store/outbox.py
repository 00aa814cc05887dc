"""States on their way to the disk: staged and queued, so that training stands still as little as it was told to."""

from __future__ import annotations

import time
from logging import Logger
from typing import Any, Callable, Literal

from mmckpt.store.mode import choose_queue
from mmckpt.store.unit import StagedCheckpoint
from mmckpt.store.writer import InlineQueue, Job, JobQueue

Stage = Callable[[Any], Callable[[], Any]]
# Called with whether a file is committed.
OnEnd = Callable[[bool], None]


class Outbox:
    """Hands states and other jobs over to the queue of a store, in their order.

    Args:
        async_save (bool or 'auto'): As in :class:`mmckpt.store.CheckpointStore`.
        on_busy (str): As there.
        stage (callable, optional): As there.
        logger (Logger): Where decisions and skipped saves are said.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, async_save: bool | Literal['auto'], on_busy: Literal['wait', 'skip'], stage: Stage | None,
                 logger: Logger) -> None:
        _check_arguments(async_save, on_busy, stage)
        self.async_save = async_save
        self.on_busy = on_busy
        # For how long training stood still for states, in seconds.
        self.blocked_seconds = 0.0
        self._stage = stage
        self._logger = logger
        # None until the first state tells 'auto' how large it is.
        self._queue: JobQueue | None = None
        self._unwritten = 0

    def begin(self) -> None:
        """Start with an empty queue; what an earlier attempt left in its own is over."""
        self._queue = None if self.async_save == 'auto' else choose_queue(self.async_save, None, self._logger)

    @property
    def would_skip(self) -> bool:
        """Whether a state would be left out now, because another one is being written."""
        return self._unwritten > 0 and self.on_busy == 'skip'

    def put(self, name: str, state: Any, write: Callable[[Any], bool], on_end: OnEnd | None) -> bool:
        """Write a state; in the background it is copied first, and may change at once.

        Args:
            name (str): Of the file, for the log.
            state (Any): The tree to write.
            write (callable): Writes the tree that it is given; returns False if the disk failed.
            on_end (callable, optional): Called once, on whichever thread, with whether the file is committed.

        Returns:
            bool: False if it was skipped, or failed before this returns.

        Raises:
            Exception: What went wrong in the background since the last call.
        """
        started = time.perf_counter()
        try:
            return self._put(name, state, write, on_end)
        finally:
            self.blocked_seconds += time.perf_counter() - started

    def submit(self, job: Job) -> None:
        """Run a job behind all that was handed over before."""
        (self._queue or InlineQueue()).submit(job)

    def join(self) -> None:
        """Wait until all is done; errors are kept."""
        if self._queue is not None:
            self._queue.join()

    def raise_error(self) -> None:
        """Raise the first error since the last call, if there was one."""
        if self._queue is not None:
            self._queue.raise_error()

    def _put(self, name: str, state: Any, write: Callable[[Any], bool], on_end: OnEnd | None) -> bool:
        on_end = on_end or _nobody_asks
        try:
            staged = self._staged(name, state)
        except BaseException:
            on_end(False)
            raise
        if staged is None:
            on_end(False)
            return False
        outcome = {'saved': True}

        def write_staged() -> bool:
            try:
                outcome['saved'] = write(staged())
                return outcome['saved']
            finally:
                self._unwritten -= 1

        self._unwritten += 1
        self.submit(told(write_staged, on_end))
        return outcome['saved']

    def _staged(self, name: str, state: Any) -> Callable[[], Any] | None:
        """Return what returns the state as it is now, or None where the save is skipped."""
        if self._queue is None:
            self._queue = choose_queue(self.async_save, state, self._logger)
        self.raise_error()
        # Who was told to write nothing has written nothing, even if there would be time now.
        if self.would_skip or (isinstance(state, StagedCheckpoint) and state.is_skipped):
            self._logger.warning('%s is skipped: the checkpoint before it is still being written.', name)
            return None
        if self._unwritten:
            self._queue.join()
            self.raise_error()
        # What others have written changes no more.
        if self._stage is None or isinstance(self._queue, InlineQueue) or isinstance(state, StagedCheckpoint):
            return lambda: state
        return self._stage(state)


def told(work: Callable[[], bool], on_end: OnEnd | None) -> Job:
    """Return a job that tells what became of it, once, whatever happens.

    Args:
        work (callable): Does it; returns whether a file is committed.
        on_end (callable, optional): Gets the answer; False if ``work`` raised.
    """
    def job() -> None:
        committed = False
        try:
            committed = work()
        finally:
            (on_end or _nobody_asks)(committed)

    return job


def _nobody_asks(committed: bool) -> None:
    """Take no notice."""


def _check_arguments(async_save: Any, on_busy: str, stage: Stage | None) -> None:
    if async_save not in (True, False, 'auto'):
        raise ValueError(f"async_save must be True, False or 'auto', but got {async_save!r}.")
    if on_busy not in ('wait', 'skip'):
        raise ValueError(f"on_busy must be 'wait' or 'skip', but got {on_busy!r}.")
    if async_save and stage is None:
        raise ValueError(
            f'async_save={async_save!r} needs stage, which copies the state before it changes: pass '
            'stage=mmckpt.state.snapshot.Snapshot().')
