"""One attempt of this process to train into a directory: its lock, its index, its place in the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmckpt.errors import SaveError
from mmckpt.progress import Progress
from mmckpt.store.attempts import begin_attempt, end_attempt
from mmckpt.store.catalog import Catalog
from mmckpt.store.index import Attempt
from mmckpt.store.lock import DirectoryLock
from mmckpt.store.mirror import Mirror
from mmckpt.store.record import Record, check_name

# Seconds that the end of a training waits for uploads; who sends SIGTERM sends SIGKILL 30 s later.
_UPLOAD_PATIENCE, _UPLOAD_PATIENCE_STOPPED = 600.0, 15.0


class Session:
    """Holds a directory for this process, from :meth:`open` to :meth:`close`.

    Args:
        catalog (Catalog): The index and its files.
        mirror (Mirror, optional): What copies it to a remote directory.
    """

    def __init__(self, catalog: Catalog, mirror: Mirror | None) -> None:
        self._catalog = catalog
        self._mirror = mirror
        self._lock = DirectoryLock(catalog.directory, catalog.logger)
        self._attempt: Attempt | None = None

    @property
    def is_open(self) -> bool:
        """Whether this process has the directory."""
        return self._attempt is not None

    @property
    def attempt(self) -> Attempt:
        """The attempt that is going on.

        Raises:
            SaveError: If there is none.
        """
        self.check_open()
        return self._attempt

    def check_open(self) -> None:
        """Raise a SaveError if no attempt is going on."""
        if self._attempt is None:
            raise SaveError(f'The store of {self._catalog.directory} is not open: call open() first.')

    def open(self, resumed_from: str | Path | None, event: dict[str, Any] | None) -> None:
        """Take the directory, repair what a crash left, and begin an attempt.

        Args:
            resumed_from (str or Path, optional): The file that training resumes from.
            event (dict, optional): The rollback that the attempt begins with.

        Raises:
            LockedError: If another process trains into the directory.
            SaveError: If the directory cannot be written.
        """
        catalog = self._catalog
        try:
            catalog.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            catalog.load()
            index, attempt = begin_attempt(catalog.index, catalog.directory, resumed_from, self._lock.shared, event)
            catalog.commit(index)
        except BaseException as error:
            self._lock.release()
            if not isinstance(error, OSError):
                raise
            raise SaveError(f'Checkpoints cannot be written to {catalog.directory}: {error}. Make the directory '
                            'writable and its disk free, or choose another work_dir.') from error
        self._attempt = attempt

    def draft(self, name: str, progress: Progress, roles: Sequence[str], scores: Mapping[str, float] | None,
              metrics: Mapping[str, float] | None, rules: Mapping[str, str] | None,
              val_pending: bool = False) -> Record:
        """Return the record of a file of this attempt, without what only its commit tells."""
        check_name(name)
        attempt = self.attempt
        return Record(
            name=name, seq=0, run=attempt.run, attempt=attempt.attempt, epoch=progress.epoch,
            iter=progress.iter, time=0.0, size=0, digest='', roles=tuple(roles), scores=dict(scores or {}),
            metrics=dict(metrics or {}), val_pending=val_pending, rules=dict(rules or {}))

    def close(self, reason: str) -> None:
        """Note in the history how the attempt ended, upload the rest, and give the directory back.

        Args:
            reason (str): As in :class:`mmckpt.store.index.Attempt`.
        """
        try:
            self._note_end(reason)
        except BaseException:
            self.abandon()
            raise
        self._leave(_UPLOAD_PATIENCE if reason == 'finished' else _UPLOAD_PATIENCE_STOPPED)

    def abandon(self) -> None:
        """Give the directory back at once, as the death of the process would."""
        self._leave(patience=0.0)

    def _note_end(self, reason: str) -> None:
        catalog = self._catalog
        try:
            catalog.commit(end_attempt(catalog.index, self.attempt.attempt, reason))
        except OSError as error:
            catalog.logger.warning('The end of this attempt could not be noted in the index: %s', error)

    def _leave(self, patience: float) -> None:
        try:
            if self._mirror is not None:
                self._mirror.close(patience)
        finally:
            self._attempt = None
            self._lock.release()
