"""What goes: drops the checkpoints that retention does not keep, and only those."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from logging import Logger
from pathlib import Path

from mmckpt.policy.retention import Retention, to_drop
from mmckpt.store.catalog import Catalog
from mmckpt.store.record import PERIODIC, Record
from mmckpt.store.space import megabytes, run_warning, save_warning, sizes_on_disk


class Pruner:
    """Applies a retention policy to the files of the current run.

    Args:
        catalog (Catalog): The index and its files.
        retention (Retention): What to keep of the current run.
        pointer (Path, optional): MMEngine's ``last_checkpoint`` file; what it names stays.
        logger (Logger): Where drops are said.
    """

    def __init__(self, catalog: Catalog, retention: Retention, pointer: Path | None, logger: Logger) -> None:
        self.catalog = catalog
        self.retention = retention
        self.pointer = pointer
        self.logger = logger
        # Number of the current run; only its files are ever dropped.
        self.run = 0
        self.bytes_freed = 0
        self.files_dropped = 0

    def prune(self) -> list[Record]:
        """Drop what the policy does not keep of this run; return the records."""
        records = to_drop(self.catalog.index.of_run(self.run), self.retention, self._protected())
        try:
            return self.drop(records)
        except OSError as error:
            self.logger.warning('Old checkpoints could not be dropped: %s. It is tried again later.', error)
            return []

    def drop(self, records: list[Record]) -> list[Record]:
        """Take files out of the index and off the disk, and say what that frees."""
        if not records:
            return []
        directory = self.catalog.directory
        sizes = sizes_on_disk([directory / record.name for record in records])
        freed = sum(sizes)
        self.catalog.drop(records)
        self.bytes_freed += freed
        self.files_dropped += len(sizes)
        # A second name of bytes that are kept frees nothing and is nobody's news.
        self.logger.log(
            logging.INFO if freed else logging.DEBUG, 'Dropped %s: %s freed, %s in this run so far.',
            ', '.join(r.name for r in records), megabytes(freed), megabytes(self.bytes_freed))
        return records

    def make_room(self, draft: Record, expected: int) -> None:
        """Before a save that does not fit, drop what it would drop anyway, if a newer file is there.

        A best that only this save would replace stays: no other file is as good, should the save fail.
        """
        free = self.catalog.backend.free_bytes(self.catalog.directory)
        if free >= expected:
            return
        present = self.catalog.index.of_run(self.run)
        coming = replace(draft, seq=self.catalog.index.last_seq + 1)
        others = [record for record in present if record.name != draft.name]
        surplus = to_drop([*others, coming], self.retention, self._protected())
        newest = max((record.seq for record in present), default=0)
        unwanted = {record.name for record in to_drop(present, self.retention, self._protected())}
        self.drop([record for record in surplus
                   if record.seq < newest and (record.name in unwanted or not is_best(record))])
        free = self.catalog.backend.free_bytes(self.catalog.directory)
        if free < expected:
            self.logger.warning('%s', save_warning(draft.name, expected, free))

    def make_room_for_staged(self, name: str) -> None:
        """Do the same before others write, if what they write is as large as the newest directory; a failure is said.

        Args:
            name (str): Of the checkpoint.
        """
        present = [record for record in self.catalog.index.of_run(self.run) if record.is_directory]
        newest = max(present, key=lambda record: record.seq, default=None)
        if newest is None:
            return
        draft = replace(newest, name=name, roles=(PERIODIC,), scores={})
        try:
            self.make_room(draft, newest.size)
        except OSError as error:
            self.logger.warning('Old checkpoints could not be dropped: %s. It is tried again later.', error)

    def run_fits(self, expected_size: int, files: int) -> bool:
        """Whether so many files of a size will fit on the disk; if not, the log says so with numbers."""
        catalog = self.catalog
        there = sum(record.size for record in catalog.index.of_run(self.run))
        warning = run_warning(expected_size, files, there, catalog.backend.free_bytes(catalog.directory))
        if warning is not None:
            self.logger.warning('%s', warning)
        return warning is None

    def _protected(self) -> set[str]:
        """The file that ``last_checkpoint`` names stays: stock tools go by it."""
        try:
            return {os.path.basename(self.pointer.read_text().strip())} if self.pointer else set()
        except OSError:
            return set()


def is_best(record: Record) -> bool:
    """Whether a file is kept for a score."""
    return any(role.startswith('best:') for role in record.roles)
