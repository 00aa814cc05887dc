"""Which files of a directory are bad, and why."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Union

from mmckpt.cli.directory import Directory, file_id, read_directory
from mmckpt.errors import CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.store.checks import stored_size
from mmckpt.store.loader import archive_fault, load_checkpoint
from mmckpt.store.record import Record
from mmckpt.store.unit import is_unit, unit_fault
from mmckpt.store.view import StoreView

# A file is known by its record, or without one by its path.
Target = Union[Record, Path]


def targets_of(directory: Directory) -> list[Target]:
    """Return all that can be checked in a directory: files with a record first."""
    return [*directory.view.records(), *directory.strangers]


def quick_faults(directory: Directory) -> dict[str, str]:
    """Check sizes against the records, and whether files without a record open at all.

    Args:
        directory (Directory): The directory.

    Returns:
        dict[str, str]: Reason by name of each bad file.
    """
    faults = {record.name: directory.view.check_size(record) for record in directory.view.records()}
    faults.update((path.name, _opening_fault(path)) for path in directory.strangers)
    return _still_true(directory, {name: fault for name, fault in faults.items() if fault is not None})


def byte_faults(directory: Directory) -> dict[str, str]:
    """Check every byte: by the digest of the record, or by the checksums inside the file.

    Args:
        directory (Directory): The directory.

    Returns:
        dict[str, str]: Reason by name of each bad file.
    """
    return _still_true(directory, faults_of(directory.view, targets_of(directory)))


def faults_of(view: StoreView, targets: Sequence[Target]) -> dict[str, str]:
    """Check every byte of some files, with a progress bar on a terminal; names of one file are read once."""
    faults: dict[str, str] = {}
    seen: dict[object, str | None] = {}
    found = [(target, _path(view, target)) for target in targets]
    sizes = {file_id(path): _size(path) for _, path in found}
    done = 0
    with _progress(sum(sizes.values())) as show:
        for target, path in found:
            file = file_id(path)
            # Two names of one file can have been recorded with different bytes.
            key = file, target.digest if isinstance(target, Record) else None
            if key not in seen:
                seen[key] = _byte_fault(view, target, partial(_shift, show, path.name, done))
                done += sizes.pop(file, 0)
                show(path.name, done)
            fault = seen[key]
            if fault is not None:
                faults[path.name] = fault
    return faults


def _byte_fault(view: StoreView, target: Target, on_bytes: Callable[[int], None]) -> str | None:
    if isinstance(target, Record):
        return view.verify(target, on_bytes)
    if is_unit(target):
        return unit_fault(target, None, on_bytes)
    if zipfile.is_zipfile(target):
        return archive_fault(target)
    return _opening_fault(target)


def _opening_fault(path: Path) -> str | None:
    try:
        load_checkpoint(path, mmap=True)
    except IncompatibleCheckpointError:
        # Weights of another kind, or objects that are not loaded: nothing is wrong with their bytes.
        return None if zipfile.is_zipfile(path) else 'it is not a file of torch.save'
    except CorruptCheckpointError:
        return 'it cannot be read: it is truncated or was altered'
    except OSError as error:
        return f'it cannot be read ({error})'
    return None


def _still_true(directory: Directory, faults: dict[str, str]) -> dict[str, str]:
    """Leave out files that a running training has dropped or replaced while they were checked."""
    if not faults:
        return faults
    now = read_directory(directory.path).view

    def unchanged(name: str) -> bool:
        before, after = directory.view.find(name), now.find(name)
        if before is None or after is None:
            return before is after and (directory.path / name).exists()
        return (before.seq, before.digest) == (after.seq, after.digest)

    return {name: fault for name, fault in faults.items() if unchanged(name)}


def _path(view: StoreView, target: Target) -> Path:
    return view.directory / target.name if isinstance(target, Record) else target


def _size(path: Path) -> int:
    try:
        return stored_size(path)
    except OSError:
        return 0


def _shift(show: Callable[[str, int], None], name: str, before: int, size: int) -> None:
    show(name, before + size)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as SpeedColumn

    columns = (TextColumn('{task.description}', markup=False), BarColumn(bar_width=None), DownloadColumn(),
               SpeedColumn(), TimeRemainingColumn())
    # On stderr, so that the findings can go to a file while the bar is seen.
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True,
                  disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task('', total=total)
        yield lambda name, size: bar.update(task, description=name, completed=size)
