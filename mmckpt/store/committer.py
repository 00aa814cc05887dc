"""The jobs of a store, run one after the other on whichever thread the queue has."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from logging import Logger
from pathlib import Path
from typing import Any

from mmckpt.errors import SaveError
from mmckpt.store.backend import link_temporary, write_temporary, write_text_durably
from mmckpt.store.catalog import Catalog
from mmckpt.store.checks import stored_size
from mmckpt.store.progress_log import ProgressLog
from mmckpt.store.pruner import Pruner, is_best
from mmckpt.store.record import Record
from mmckpt.store.serialize import write_state
from mmckpt.store.space import estimate_bytes, megabytes
from mmckpt.store.unit import StagedCheckpoint, link_unit, seal


class Committer:
    """Writes, links and completes, and keeps a failing disk from stopping the run.

    Args:
        catalog (Catalog): The index and its files.
        pruner (Pruner): Drops what need not be kept, after each commit.
        pointer (Path, optional): MMEngine's ``last_checkpoint`` file.
        max_failures (int): Failed saves in a row after which :meth:`write` raises.
        logger (Logger): Where failures and drops are said.

    Raises:
        ValueError: If ``max_failures`` is out of its range.
    """

    def __init__(self, catalog: Catalog, pruner: Pruner, pointer: Path | None, max_failures: int,
                 logger: Logger) -> None:
        if isinstance(max_failures, bool) or not isinstance(max_failures, int) or max_failures < 1:
            raise ValueError(
                f'max_failures must be at least 1 (1 stops at the first failed save), but got {max_failures!r}.')
        self.catalog = catalog
        self.pruner = pruner
        self.pointer = pointer
        self.max_failures = max_failures
        self.logger = logger
        self.bytes_written = 0
        self.files_written = 0
        self.last_write_seconds = 0.0
        self.failures = 0

    def write(self, state: Any, draft: Record, point_last: bool) -> bool:
        """Write a state and commit its record; return whether the file counts.

        Args:
            state (Any): The tree to write, or what others have written.
            draft (Record): The record without what only the write tells.
            point_last (bool): Whether ``last_checkpoint`` shall name the file.

        Raises:
            SaveError: If it is one failure too many in a row.
        """
        staged, started = isinstance(state, StagedCheckpoint), time.perf_counter()
        expected = _size_so_far(state.path) if staged else estimate_bytes(state)
        before = self.catalog.index.last_seq
        try:
            self.pruner.make_room(draft, 0 if staged else expected)
            record = self._write_file(state, draft, expected)
        except OSError as error:
            known = self.catalog.index.records.get(draft.name)
            # What fails after the file has its name (the sync, or the index, for which a note stands) is not its loss.
            counts = known is not None and known.seq > before
            self._failed(draft.name, expected, error, counts)
            return counts
        self.failures = 0
        self.bytes_written += record.size
        self.files_written += 1
        self.last_write_seconds = time.perf_counter() - started
        self._finish(record, point_last)
        return True

    def link(self, source: str, draft: Record, point_last: bool) -> bool:
        """Give the bytes of a committed file one more name; return whether it counts.

        Without that file, say so and do nothing.
        """
        index = self.catalog.index
        original = index.records.get(source)
        if original is None:
            self.logger.warning('%s is not made: %s, whose bytes it would share, was not written.',
                                draft.name, source)
            return False
        record = (original.also_kept_as(draft) if source == draft.name
                  else _linked(original, draft, index.last_seq + 1))
        directory = self.catalog.directory
        try:
            if _same_file(directory / source, directory / draft.name):
                self.catalog.commit(index.with_records([record]))
            else:
                self.catalog.publish(self._link_file(original, directory / draft.name), record)
        except OSError as error:
            self.logger.warning('%s could not be made: %s. Its bytes are in %s.', draft.name, error, source)
            return self.catalog.index.records.get(draft.name) == record
        self._finish(record, point_last)
        return True

    def amend(self, names: Sequence[str], changes: dict[str, Any]) -> None:
        """Complete the records of some files; names without a record are left out.

        Args:
            names (Sequence[str]): The files.
            changes (dict): New values of fields, or what returns them; None leaves one as it is.
        """
        now = {key: value() if callable(value) else value for key, value in changes.items()}
        index = self.catalog.index
        records = [replace(index.records[name], **{key: value for key, value in now.items() if value is not None})
                   for name in names if name in index.records]
        if not records:
            return
        try:
            self.catalog.commit(index.with_records(records))
        except OSError as error:
            self.logger.warning(
                'What the validation changed could not be written to the index: %s. A resume from %s runs '
                'that validation again.', error, ', '.join(names))

    def rewind(self, name: str) -> None:
        """Make a file the newest again; what was saved after its step goes, unless it is a best."""
        index = self.catalog.index
        record = replace(index.records[name], seq=index.last_seq + 1)
        self.catalog.commit(index.with_records([record]))
        self.pruner.drop([r for r in self.catalog.index.of_run(self.pruner.run)
                          if r.iter > record.iter and not is_best(r)])
        self._finish(record, point_last=True)

    def _write_file(self, state: Any, draft: Record, expected: int) -> Record:
        catalog = self.catalog
        progress = ProgressLog(draft.name, expected, self.logger)
        if isinstance(state, StagedCheckpoint):
            temporary, written = state.path, seal(catalog.backend, state, progress)
        else:
            temporary, written = write_temporary(
                catalog.backend, catalog.directory / draft.name, lambda file: write_state(state, file), progress)
        record = replace(draft, seq=catalog.index.last_seq + 1, size=written.size, digest=written.digest,
                         time=time.time())
        catalog.publish(temporary, record)
        return record

    def _link_file(self, original: Record, target: Path) -> Path:
        backend = self.catalog.backend
        if original.is_directory:
            temporary, size = link_unit(backend, self.catalog.directory / original.name, target)
            self.bytes_written += size
            return temporary
        temporary, copied = link_temporary(backend, self.catalog.directory / original.name, target)
        if copied is not None:
            self.bytes_written += copied.size
            if original.digest and copied.digest != original.digest:
                backend.remove(temporary)
                raise OSError(errno.EIO, f'{original.name} has changed on the disk since it was written')
        return temporary

    def _finish(self, record: Record, point_last: bool) -> None:
        """Do what follows a commit; what fails here does not undo it."""
        if point_last and self.pointer is not None:
            path = os.path.abspath(self.catalog.directory / record.name)
            try:
                write_text_durably(self.catalog.backend, self.pointer, path)
            except OSError as error:
                self.logger.warning('%s could not be written: %s. mmckpt finds %s all the same.',
                                    self.pointer, error, record.name)
        self.pruner.prune()

    def _failed(self, name: str, expected: int, error: OSError, counts: bool) -> None:
        self.failures += 1
        text = (f'{name} could not be written: {error}. It needs about {megabytes(expected)}, '
                f'{self._free_text()}. The checkpoints before it are untouched.')
        if counts:
            text = f'{name} is written, but a power cut may undo it: {error}.'
        if self.failures >= self.max_failures:
            raise SaveError(
                f'{text} This was failure {self.failures} in a row (max_failures={self.max_failures}): '
                'training stops, because what it does now would be lost. Repair or free the disk, then '
                'resume.') from error
        self.logger.error(
            '%s Training goes on; after %d failures in a row it stops (this was %d). Free some space or '
            'repair the disk.', text, self.max_failures, self.failures)

    def _free_text(self) -> str:
        try:
            return f'{megabytes(self.catalog.backend.free_bytes(self.catalog.directory))} are free'
        except OSError as error:
            return f'and what is free cannot be told ({error})'


def _size_so_far(path: Path) -> int:
    try:
        return stored_size(path)
    except OSError:
        # Others are still writing, or could not.
        return 0


def _linked(original: Record, draft: Record, seq: int) -> Record:
    return replace(original, name=draft.name, seq=seq, run=draft.run, attempt=draft.attempt,
                   roles=draft.roles, scores=draft.scores, rules=draft.rules,
                   metrics={**original.metrics, **draft.metrics})


def _same_file(first: Path, second: Path) -> bool:
    return second.exists() and os.path.samefile(first, second)
