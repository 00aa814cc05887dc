"""The reading side of a store: what is there, which is newest, which is sound."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable, Union

from mmckpt.store.checks import byte_fault, size_fault
from mmckpt.store.index import BrokenIndexError, Index, read_index
from mmckpt.store.intent import settle_intent
from mmckpt.store.rebuild import rebuild_index
from mmckpt.store.record import Record, newest_first
from mmckpt.store.verdict import Verdict, note_verified, take_verdict

PathLike = Union[str, os.PathLike]


class StoreView:
    """Looks at the checkpoints of a directory; changes nothing and takes no lock.

    Args:
        directory (str or Path): The directory; it need not exist.
        index (Index): What is known of it.
        logger (Logger): Where rejected files are named.
    """

    def __init__(self, directory: PathLike, index: Index, logger: logging.Logger) -> None:
        self.directory = Path(directory)
        self.logger = logger
        self._index = index
        self.rejected: list[Record] = []

    @property
    def index(self) -> Index:
        """The committed records and the history of attempts."""
        return self._index

    def records(self) -> list[Record]:
        """Return the committed records in the order of their commits."""
        return sorted(self.index.records.values(), key=lambda record: record.seq)

    def records_of_run(self) -> list[Record]:
        """Return the records of the current (or last) run, in the order of their commits."""
        return [record for record in self.records() if record.run == self.index.current_run]

    def find(self, name: str) -> Record | None:
        """Return the record of a file name, or None."""
        return self.index.records.get(name)

    def newest(self) -> Record | None:
        """Return the newest record by the order of commits, or None; its file is not looked at."""
        return next(iter(newest_first(self.records())), None)

    def latest_valid(self) -> Record | None:
        """Return the newest record whose file verifies, or None.

        The log says why others do not; they are listed in ``rejected``.
        """
        self.rejected = []
        for record in newest_first(self.records()):
            fault = self.verify_once(record)
            if fault is None:
                return record
            self.logger.warning('%s is skipped: %s.', self.directory / record.name, fault)
            self.rejected.append(record)
        return None

    def best(self, metric: str) -> Record | None:
        """Return the newest record that was kept as the best of a metric, or None."""
        role = f'best:{metric}'
        return next((record for record in newest_first(self.records()) if role in record.roles), None)

    def check_size(self, record: Record) -> str | None:
        """Check that a file is there with all its bytes, without reading them.

        Args:
            record (Record): The record.

        Returns:
            str, optional: The reason why the file is bad, or None if it has the right size.
        """
        return size_fault(self.directory / record.name, record)

    def verify(self, record: Record, on_bytes: Callable[[int], None] = lambda size: None) -> str | None:
        """Check size and bytes of a file against its record.

        Args:
            record (Record): The record.
            on_bytes (callable): Called with the number of bytes read so far.

        Returns:
            str, optional: The reason why the file is bad, or None if it is sound.
        """
        path = self.directory / record.name
        # Its state before the first byte is read: who writes meanwhile changes it.
        before = Verdict.of(path, record.digest)
        fault = byte_fault(path, record, on_bytes)
        note_verified(before if fault is None else None)
        return fault

    def verify_once(self, record: Record) -> str | None:
        """Check a file as :meth:`verify` does, unless it was handed over as verified and nobody has touched it since.

        Args:
            record (Record): The record.

        Returns:
            str, optional: As :meth:`verify`.
        """
        return None if take_verdict(self.directory / record.name, record.digest) else self.verify(record)


def read_view(directory: PathLike, logger: logging.Logger | None = None) -> StoreView:
    """Look at a directory, whether or not it has an index, without changing anything.

    Args:
        directory (str or Path): The directory; it need not exist.
        logger (Logger, optional): Defaults to the logger ``mmckpt``.

    Returns:
        StoreView: Its checkpoints.

    Raises:
        IncompatibleCheckpointError: If a newer mmckpt wrote the index.
    """
    logger = logger or logging.getLogger('mmckpt')
    path = Path(directory)
    try:
        index = read_index(path)
    except BrokenIndexError as error:
        logger.warning('The index of %s is broken: %s. Its files are looked at instead.', path, error)
        index = None
    if index is not None:
        return StoreView(path, settle_intent(path, index), logger)
    # A note of what was about to be committed means nothing to an index made anew from the files.
    return StoreView(path, rebuild_index(path, logger, trust=True) if path.is_dir() else Index(), logger)
