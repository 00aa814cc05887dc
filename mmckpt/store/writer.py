"""When jobs run: at once, or one after the other on a kept background thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Callable, Protocol

Job = Callable[[], None]


class JobQueue(Protocol):
    """Runs jobs in the order in which they were submitted."""

    @property
    def idle(self) -> bool: ...
    def submit(self, job: Job) -> None: ...
    def join(self) -> None: ...
    def raise_error(self) -> None: ...


class InlineQueue:
    """Runs each job at once, in the calling thread; errors go straight to the caller.

    Example:
        >>> done = []
        >>> InlineQueue().submit(lambda: done.append(1))
        >>> done
        [1]
    """

    idle = True

    def submit(self, job: Job) -> None:
        """Run a job."""
        job()

    def join(self) -> None:
        """Do nothing: no job is ever left."""

    def raise_error(self) -> None:
        """Do nothing: errors were raised where they happened."""


class ThreadQueue:
    """Runs jobs on one daemon thread that is kept from job to job.

    The first error of a job is kept, traceback included, until
    :meth:`raise_error`; the jobs after it run all the same.

    Example:
        >>> queue, done = ThreadQueue(), []
        >>> queue.submit(lambda: done.append(1))
        >>> queue.join()
        >>> done
        [1]
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._unfinished = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def idle(self) -> bool:
        """Whether every job has ended."""
        return self._unfinished == 0

    def submit(self, job: Job) -> None:
        """Add a job behind the others."""
        with self._changed:
            self._jobs.append(job)
            self._unfinished += 1
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name='mmckpt-writer', daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until every job has ended."""
        # A forked child inherits the counter, but not the thread that counts it down.
        if self._pid != os.getpid():
            return
        with self._changed:
            self._changed.wait_for(lambda: self._unfinished == 0)

    def raise_error(self) -> None:
        """Raise the kept error once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs))
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:
                self._error = self._error or error
            # The job holds a whole state; it must not live until the next one comes.
            del job
            with self._changed:
                self._unfinished -= 1
                self._changed.notify_all()
