"""The index of a directory together with its files: every change in the order that a crash forgives."""

from __future__ import annotations

import os
from dataclasses import replace
from logging import Logger
from pathlib import Path
from typing import Callable

from mmckpt.store.backend import (
    StorageBackend,
    dead_temporaries,
    rename,
    write_temporary,
)
from mmckpt.store.index import INDEX_NAME, BrokenIndexError, Index, Leftover, dump_index, read_index
from mmckpt.store.intent import note_intent, noted_record, settle_intent
from mmckpt.store.rebuild import PATTERN, rebuild_index
from mmckpt.store.record import Record
from mmckpt.store.unit import stray_unit


class Catalog:
    """Adds files to an index and takes them out.

    A record is committed only when its file is durable, and a file is removed
    only when its record is out of the index: a crash leaves an orphan at
    worst, never a record without a file.

    Args:
        directory (Path): The directory; its lock is held.
        backend (StorageBackend): The file system.
        logger (Logger): Where repairs are named.
    """

    def __init__(self, directory: Path, backend: StorageBackend, logger: Logger) -> None:
        self.directory = directory
        self.backend = backend
        self.logger = logger
        self.index = Index()
        self.on_commit: Callable[[Index], None] = lambda index: None

    def load(self) -> None:
        """Read the index, or rebuild it from the files, and clear away what a crash left."""
        try:
            index = read_index(self.directory)
            if index is not None:
                self._bring_back(index)
        except BrokenIndexError as error:
            self.logger.warning(
                '%s of %s is broken: %s. It is rebuilt from the files; results of validations that only it '
                'knew are lost.', INDEX_NAME, self.directory, error)
            index = None
        for path in dead_temporaries(self.directory):
            self.logger.info('Removed %s, left by a process that is gone.', path.name)
            self.backend.remove(path)
        # A note of what was about to be committed means nothing to an index made anew from the files.
        index = rebuild_index(self.directory, self.logger) if index is None else settle_intent(self.directory, index)
        self.index = self._without_missing(index)
        self.remove_leftovers()
        self._name_strangers()

    def commit(self, index: Index) -> None:
        """Make an index the durable and the current one."""
        target = self.directory / INDEX_NAME
        text = dump_index(index).encode()
        temporary, _ = write_temporary(self.backend, target, lambda file: file.write(text))
        rename(self.backend, temporary, target)
        # From here on readers see it, whether or not the sync succeeds.
        self.index = index
        self.backend.sync_directory(self.directory)
        self.on_commit(index)

    def publish(self, temporary: Path, record: Record) -> None:
        """Give a durable temporary file its name and commit its record.

        The record is noted first, so that a crash between rename and commit
        loses nothing and never leaves the record of a file that was replaced.
        """
        target = self.directory / record.name
        replaces = record.name in self.index.records
        try:
            note_intent(self.backend, self.directory, record, replaces)
            rename(self.backend, temporary, target)
        except BaseException:
            self.backend.remove(temporary)
            raise
        index = self.index.with_records([record])
        try:
            self.backend.sync_directory(self.directory)
            self.commit(index)
        except BaseException:
            if replaces:
                # The old bytes are gone, and the note on disk already says which record is right.
                self.index = index
            elif record.name not in self.index.records:
                self.backend.remove(target)
            raise

    def drop(self, records: list[Record]) -> None:
        """Take records out of the index, then remove their files."""
        leftovers = [self._leftover(record) for record in records]
        self.commit(self.index.without([record.name for record in records], leftovers))
        self.remove_leftovers()

    def set_aside(self, record: Record) -> None:
        """Take a bad file out of the index and keep its bytes as ``<name>.corrupt``."""
        self.commit(self.index.without([record.name], []))
        path = self.directory / record.name
        if path.exists():
            self.backend.replace(path, path.with_name(f'{record.name}.corrupt'))

    def remove_leftovers(self) -> None:
        """Remove dropped files; one that has been written anew since then stays."""
        kept = []
        for item in self.index.leftovers:
            path = self.directory / item.name
            try:
                if item.name not in self.index.records and path.exists() and _leftover_of(path) == item:
                    self.backend.remove(path)
            except OSError as error:
                self.logger.warning('%s is not needed any more, but cannot be removed: %s', path, error)
                kept.append(item)
        self.index = replace(self.index, leftovers=tuple(kept))

    def _leftover(self, record: Record) -> Leftover:
        path = self.directory / record.name
        return _leftover_of(path) if path.exists() else Leftover(record.name, 0, 0)

    def _without_missing(self, index: Index) -> Index:
        missing = [name for name in index.records if not (self.directory / name).exists()]
        for name in missing:
            self.logger.warning('%s is in the index, but the file is missing: it is taken out.', name)
        return index.without(missing)

    def _bring_back(self, index: Index) -> None:
        """Give a directory its name where a crash came between the loss of an old one and the new one's."""
        noted = noted_record(self.directory)
        for record in [*([] if noted is None else [noted]), *index.records.values()]:
            target = self.directory / record.name
            stray = stray_unit(self.directory, record.name, record.digest) if (
                record.is_directory and not target.exists()) else None
            if stray is not None:
                self.backend.replace(stray, target)
                self.backend.sync_directory(self.directory)

    def _name_strangers(self) -> None:
        known = self.index.records
        strangers = [path.name for path in sorted(self.directory.glob(PATTERN)) if path.name not in known]
        if strangers:
            self.logger.info('Files in %s that are not in its index are left alone: %s.',
                             self.directory, ', '.join(strangers))


def _leftover_of(path: Path) -> Leftover:
    status = os.stat(path)
    return Leftover(path.name, status.st_size, status.st_mtime_ns)
