"""Copies what is committed to a remote directory in the background; training never waits for it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from logging import Logger
from pathlib import Path

from mmckpt.policy.retention import Retention
from mmckpt.store.index import Index
from mmckpt.store.mirror_plan import is_stand_in, plan_mirror, stand_in_name, twin_of
from mmckpt.store.record import Record
from mmckpt.store.remote import RemoteDirectory
from mmckpt.store.space import megabytes

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
# Failures between two lines in the log, once it is known that the remote does not answer.
_SAY_EVERY = 10


class _ClosedError(Exception):
    """The mirror was closed while it was at work."""


class Mirror:
    """Makes a remote directory hold what the local one has committed.

    One daemon thread takes the newest committed index, uploads the files that
    the remote index does not name (second names of bytes are copied there),
    commits the remote index after each, and only then removes what retention
    drops: whoever reads the remote index finds every file that it names. The
    bytes behind a name change only while the new ones have another name in the
    index, too, so that a best that is written anew is never missing. What
    fails is tried again with growing pauses for as long as training runs.

    Args:
        remote (RemoteDirectory): Where to.
        directory (Path): Where from.
        logger (Logger): Where uploads and failures are said.
        first_delay (float): Pause after the first failure, in seconds; it doubles
            up to 60. Defaults to 1.
    """

    def __init__(self, remote: RemoteDirectory, directory: Path, logger: Logger,
                 first_delay: float = FIRST_DELAY) -> None:
        self.remote = remote
        self.directory = directory
        self.logger = logger
        self.first_delay = first_delay
        self.failures = 0
        self._there: Index | None = None
        self._wanted: tuple[Index, Retention] | None = None
        self._changed = threading.Condition()
        self._busy = self._closed = self._told = False
        self._thread: threading.Thread | None = None

    def update(self, index: Index, retention: Retention) -> None:
        """Take a committed index as the state to reach; returns at once.

        Args:
            index (Index): The local index.
            retention (Retention): The policy of the run.
        """
        files = {name: record for name, record in index.records.items() if not record.is_directory}
        if len(files) < len(index.records) and not self._told:
            self._told = True
            self.logger.warning('Checkpoints that are directories are not uploaded to %s; they stay in %s.',
                                self.remote.url, self.directory)
        with self._changed:
            self._wanted = replace(index, records=files), retention
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name='mmckpt-mirror', daemon=True)
            self._thread.start()

    def close(self, patience: float) -> bool:
        """Wait until the remote has everything, but not for ever.

        Args:
            patience (float): Seconds to wait at most.

        Returns:
            bool: Whether it has everything; if not, the log says so.
        """
        with self._changed:
            try:
                done = self._changed.wait_for(self._is_done, 0)
                if not done:
                    self.logger.info('Waits for the upload to %s, at most %.0f s.', self.remote.url, patience)
                    done = self._changed.wait_for(self._is_done, patience)
            finally:
                # Also where Ctrl-C ends the wait: another training may write there from now on.
                self._closed = True
                self._changed.notify_all()
        if not done:
            self.logger.error('%s does not hold the newest checkpoints: the upload was not finished within %.0f s. '
                              'They are in %s; a resume there uploads them.', self.remote.url, patience, self.directory)
        return done

    def _is_done(self) -> bool:
        return self._wanted is None and not self._busy

    def _work(self) -> None:
        delays = self._delays()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._closed)
                if self._closed:
                    return
                wanted, self._wanted, self._busy = self._wanted, None, True
            failed = False
            try:
                self._reach(*wanted)
                delays, self.failures = self._delays(), 0
            except _ClosedError:
                return
            except Exception as error:
                failed = True
                self._failed(error)
            with self._changed:
                if failed:
                    # A newer state, if one came meanwhile, includes this one.
                    self._wanted = self._wanted or wanted
                self._busy = False
                self._changed.notify_all()
                if failed:
                    self._changed.wait_for(lambda: self._closed, next(delays))

    def _reach(self, index: Index, retention: Retention) -> None:
        if self._there is None:
            self._there = self.remote.read_index() or Index()
            self._remove_orphans()
        plan = plan_mirror(index, self._there, retention)
        for record in plan.missing:
            bring = self._replace if record.name in self._there.records else self._bring
            if not bring(record):
                # The state that came meanwhile decides what goes, too.
                return
            self._commit(replace(plan.index, records={**self._there.records, record.name: record},
                                 leftovers=self._there.leftovers))
        plan = plan_mirror(index, self._there, retention)
        if self._there != plan.index:
            self._commit(plan.index)
        for name in plan.surplus:
            self._check_open()
            self.remote.remove(name)
        self._there = replace(self._there, leftovers=())

    def _bring(self, record: Record, name: str | None = None) -> bool:
        """Upload or copy a file; return False if it was dropped or written anew since the index was taken."""
        if self._is_outdated(record):
            return False
        self._check_open()
        name = name or record.name
        twin = twin_of(record, self._there.records)
        if twin is not None:
            self.remote.copy(twin.name, name)
            return True
        started = time.perf_counter()
        try:
            self.remote.upload(self.directory / record.name, replace(record, name=name))
        except FileNotFoundError:
            if self._is_outdated(record):
                return False
            raise
        if self._is_outdated(record):
            # What has gone up may be the bytes that took its name meanwhile.
            self.remote.remove(name)
            return False
        self.logger.info('Uploaded %s to %s: %s in %.1f s.', record.name, self.remote.url, megabytes(record.size),
                         time.perf_counter() - started)
        return True

    def _replace(self, record: Record) -> bool:
        """Put new bytes behind a name in use; the index names the old or the new ones at every moment."""
        twin = twin_of(record, self._there.records)
        if twin is None:
            twin = replace(record, name=stand_in_name(record))
            if not self._bring(record, twin.name):
                return False
        stand_in = twin.also_kept_as(record)
        self._commit(self._there.without([record.name]).with_records([stand_in]))
        return self._bring(record)

    def _remove_orphans(self) -> None:
        """Remove stand-ins of a process that died before any index named them."""
        for name in self.remote.names():
            if is_stand_in(name) and name not in self._there.records:
                self.remote.remove(name)

    def _check_open(self) -> None:
        # Another mirror may be at work there by now; what this one knows of the index is old.
        if self._closed:
            raise _ClosedError

    def _is_outdated(self, record: Record) -> bool:
        with self._changed:
            newer = self._wanted
        if newer is None:
            return False
        now = newer[0].records.get(record.name)
        return now is None or (now.seq, now.digest) != (record.seq, record.digest)

    def _commit(self, index: Index) -> None:
        self._check_open()
        try:
            self.remote.write_index(index)
        except BaseException:
            # Which of the two is there is not known: look at the next attempt.
            self._there = None
            raise
        self._there = index

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % _SAY_EVERY == 0:
            self.logger.warning(
                'The upload to %s failed (%d in a row): %s: %s. It is tried again; training goes on, and all '
                'checkpoints are in %s.', self.remote.url, self.failures, type(error).__name__, error, self.directory)

    def _delays(self) -> Iterator[float]:
        return (min(self.first_delay * 2 ** n, LONGEST_DELAY) for n in itertools.count())
