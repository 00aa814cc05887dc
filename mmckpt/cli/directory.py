"""A directory of checkpoints as the store commands see it; only :func:`locked` changes or locks anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmckpt.cli.console import warn
from mmckpt.errors import CheckpointNotFoundError, MMCkptError, UsageError
from mmckpt.store.index import INDEX_NAME, BrokenIndexError, Index, read_index
from mmckpt.store.intent import settle_intent
from mmckpt.store.lock import DirectoryLock
from mmckpt.store.rebuild import PATTERN, rebuild_index
from mmckpt.store.record import Record, newest_first
from mmckpt.store.unit import MANIFEST, is_unit
from mmckpt.store.view import StoreView

# Why files are rejected is told by the commands, in their own form.
_QUIET = logging.Logger('mmckpt.cli', logging.CRITICAL)


@dataclass(frozen=True)
class Directory:
    """What lies in a directory of checkpoints at one moment.

    Args:
        path (Path): The directory.
        view (StoreView): Its records; read from the files themselves where there is no sound index.
        index (str): State of the index: ``'sound'``, ``'missing'`` or ``'broken'``.
        index_fault (str): Why a broken index cannot be trusted, else ``''``.
        strangers (tuple[Path, ...]): Files named like checkpoints that have no record.
    """

    path: Path
    view: StoreView
    index: Literal['sound', 'missing', 'broken']
    index_fault: str
    strangers: tuple[Path, ...]


def read_directory(path: str | Path) -> Directory:
    """Look at a directory without locking or changing anything.

    Args:
        path (str or Path): The directory of a run.

    Returns:
        Directory: What lies in it.

    Raises:
        CheckpointNotFoundError: If there is no such directory, or no checkpoint and no index in it.
        IncompatibleCheckpointError: If a newer mmckpt wrote the index.
    """
    directory = Path(path)
    if not directory.is_dir():
        what = 'is a file' if directory.exists() else 'does not exist'
        raise CheckpointNotFoundError(
            f'{path} {what}: pass the directory that holds the checkpoints of a run (this is {Path.cwd()}).')
    index, fault = load_index(directory)
    files = sorted(file for file in directory.glob(PATTERN)
                   if (file.is_file() or is_unit(file)) and not file.is_symlink())
    if index is None and not fault and not files:
        raise CheckpointNotFoundError(
            f'{path} holds no checkpoints: there are neither {PATTERN} files nor an {INDEX_NAME}.')
    view = (view_of(directory, index) if index is not None
            else StoreView(directory, rebuild_index(directory, _QUIET, trust=True), _QUIET))
    state: Literal['sound', 'missing', 'broken'] = (
        'broken' if fault else 'missing' if index is None else 'sound')
    strangers = tuple(file for file in files if view.find(file.name) is None)
    return Directory(directory, view, state, fault, strangers)


def load_index(directory: Path) -> tuple[Index | None, str]:
    """Return the index of a directory, or None and why it cannot be trusted (``''`` where there is none)."""
    try:
        return read_index(directory), ''
    except BrokenIndexError as error:
        return None, str(error)


def view_of(directory: Path, index: Index) -> StoreView:
    """Return the reading side of a store for an index that is known already."""
    return StoreView(directory, settle_intent(directory, index), _QUIET)


def files_of(directory: Path, records: Sequence[Record]) -> list[list[Record]]:
    """Group the names of one file, newest file first; copies with equal bytes are files of their own."""
    groups: dict[object, list[Record]] = {}
    for record in newest_first(records):
        groups.setdefault(file_id(directory / record.name), []).append(record)
    return list(groups.values())


def file_id(path: Path) -> object:
    """Return what all names of a file share; of a missing one its path, of a directory what its manifests share."""
    try:
        status = (path / MANIFEST if is_unit(path) else path).stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino


@contextmanager
def locked(directory: Path) -> Iterator[logging.Logger]:
    """Hold the lock of a directory, so that no training writes there; what is logged is printed.

    Args:
        directory (Path): The directory.

    Yields:
        Logger: For the parts of the store that change something.

    Raises:
        LockedError: If a training holds it.
        UsageError: If the directory cannot be locked or changed.
    """
    logger = logging.Logger('mmckpt.cli', logging.WARNING)
    logger.addHandler(_Printed())
    lock = DirectoryLock(directory, logger)
    try:
        lock.acquire()
        yield logger
    except MMCkptError:
        raise
    except OSError as error:
        raise UsageError(
            f'{directory} cannot be changed: {error}. Make it writable and its disk free.') from error
    finally:
        lock.release()


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())
