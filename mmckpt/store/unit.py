"""A checkpoint that is a directory: sealed, verified and linked as one unit.

Some trainings write a checkpoint as a directory of files, one or more a rank. What makes it a unit is its manifest, a
file in it that lists all others with their digests; the digest of the manifest is that of the unit.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import xxhash

from mmckpt.store.backend import (
    StorageBackend,
    Written,
    file_digest,
    link_temporary,
    rename,
    temporary_path,
    write_text_durably,
)
from mmckpt.store.directories import files_below, folders_of, is_directory

MANIFEST = 'mmckpt_manifest.json'
# What the training knows that no rank's file holds: counters, streams, states of hooks.
STATE = 'mmckpt_state.pth'
_DIGEST = 'tree-xxh3-128:'


@dataclass(frozen=True)
class StagedCheckpoint:
    """A file or directory that others write under a hidden name, to become a checkpoint.

    Args:
        path (Path): The hidden name; there is nothing yet.
        failure (str): Why it could not be written; the save then counts as failed. Defaults to '', it was.
        ready (callable, optional): Returns when all is written, or raises. Defaults to None, it is.
        is_skipped (bool): Whether it is left out, because the one before is being written. Defaults to False.
    """

    path: Path
    failure: str = ''
    ready: Callable[[], object] | None = None
    is_skipped: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody shall write."""
        return not (self.failure or self.is_skipped)


@dataclass(frozen=True)
class Manifest:
    """The files of a unit.

    Args:
        text (str): As it is stored.
        files (Mapping[str, tuple[int, str]]): Bytes and digest by path in the directory.
    """

    text: str
    files: Mapping[str, tuple[int, str]]

    @property
    def digest(self) -> str:
        """The digest of the unit: it changes when any byte, name or file does."""
        return _DIGEST + xxhash.xxh3_128(self.text.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files, without the manifest's own."""
        return sum(size for size, _ in self.files.values())


def is_unit(path: str | os.PathLike) -> bool:
    """Whether a path is a directory that was sealed as one checkpoint."""
    return (Path(path) / MANIFEST).is_file()


def stage(backend: StorageBackend, target: Path) -> StagedCheckpoint:
    """Choose a hidden name beside the one that a checkpoint will get, and clear it; a disk that fails is a failure."""
    path = temporary_path(target)
    try:
        backend.remove(path)
    except OSError as error:
        return StagedCheckpoint(path, f'{type(error).__name__}: {error}')
    return StagedCheckpoint(path)


def seal(backend: StorageBackend, staged: StagedCheckpoint,
         on_bytes: Callable[[int], None] = lambda size: None) -> Written:
    """Make what was written durable, a directory with a manifest; nothing is left of it if that fails.

    Args:
        backend (StorageBackend): The file system.
        staged (StagedCheckpoint): What was written, and by whom it could not be.
        on_bytes (callable): Called with the number of bytes read so far.

    Returns:
        Written: Size and digest.

    Raises:
        OSError: If the disk fails, or it was not written.
    """
    try:
        if staged.failure:
            raise OSError(errno.EIO, staged.failure)
        if staged.ready is not None:
            _wait(staged.ready)
        if not staged.path.exists():
            raise OSError(errno.ENODATA, f'nothing was written as {staged.path.name}')
        if is_directory(staged.path):
            return _seal_directory(backend, staged.path, on_bytes)
        backend.sync_file(staged.path)
        return Written(staged.path.stat().st_size, file_digest(staged.path, on_bytes))
    except BaseException:
        backend.remove(staged.path)
        raise


def _wait(ready: Callable[[], object]) -> None:
    try:
        ready()
    except Exception as error:
        # Those who write have errors of their own for a disk that fails.
        raise OSError(errno.EIO, f'{type(error).__name__}: {error}') from error


def _seal_directory(backend: StorageBackend, directory: Path, on_bytes: Callable[[int], None]) -> Written:
    files: dict[str, tuple[int, str]] = {}
    done = 0
    for path in _content(directory):
        backend.sync_file(path)
        digest = file_digest(path, lambda size, before=done: on_bytes(before + size))
        files[str(path.relative_to(directory))] = path.stat().st_size, digest
        done += path.stat().st_size
    if not files:
        raise OSError(errno.ENODATA, f'nothing was written into {directory.name}')
    manifest = Manifest(json.dumps({'version': 1, 'files': files}, indent=0), files)
    write_text_durably(backend, directory / MANIFEST, manifest.text)
    for folder in folders_of(directory):
        backend.sync_directory(folder)
    return Written(manifest.size, manifest.digest)


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a unit.

    Raises:
        OSError: If there is none.
        ValueError: If it was altered.
    """
    text = (directory / MANIFEST).read_text(encoding='utf-8')
    try:
        listed = json.loads(text)['files']
        return Manifest(text, {str(name): (int(size), str(digest)) for name, (size, digest) in listed.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{MANIFEST} is not a manifest ({type(error).__name__}: {error})') from None


def unit_fault(directory: Path, digest: str | None, on_bytes: Callable[[int], None] = lambda size: None) -> str | None:
    """Check every byte of a unit.

    Args:
        directory (Path): The unit.
        digest (str, optional): What it must have; None to check it against its own manifest only.
        on_bytes (callable): Called with the number of bytes read so far.

    Returns:
        str, optional: The reason why it is bad, or None.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        manifest = read_manifest(directory)
    except FileNotFoundError:
        return f'its {MANIFEST} is missing'
    except ValueError as error:
        return str(error)
    if digest is not None and manifest.digest != digest:
        return f'its manifest has the digest {manifest.digest}, but {digest} was written'
    there = {str(path.relative_to(directory)): path for path in _content(directory)}
    for name in (*(manifest.files.keys() - there.keys()), *(there.keys() - manifest.files.keys())):
        return f'{name} {"is missing" if name in manifest.files else "does not belong to it"}'
    done = 0
    for name, (size, written) in manifest.files.items():
        found = there[name].stat().st_size
        if found != size:
            return f'{name} has {found} bytes, but {size} were written'
        now = file_digest(there[name], lambda count, before=done: on_bytes(before + count))
        if now != written:
            return f'{name} has the digest {now}, but {written} was written'
        done += size
    return None


def unit_size(directory: Path) -> int:
    """Return the bytes of all files of a unit that is there, without its manifest's."""
    return sum(path.stat().st_size for path in _content(directory))


def link_unit(backend: StorageBackend, source: Path, target: Path) -> tuple[Path, int]:
    """Put hard links to all files of a unit, or durable copies, into a hidden directory beside ``target``.

    Returns:
        tuple: That directory, and the bytes that were copied.

    Raises:
        OSError: If the disk fails, or ``source`` is not what was written any more.
    """
    temporary, copied = temporary_path(target), 0
    backend.remove(temporary)
    try:
        manifest = read_manifest(source)
    except ValueError as error:
        raise OSError(errno.EIO, f'{source.name}: {error}') from error
    try:
        for name in (*manifest.files, MANIFEST):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            part, written = link_temporary(backend, source / name, temporary / name)
            rename(backend, part, temporary / name)
            if written is not None and name != MANIFEST:
                copied += written.size
                if written.digest != manifest.files[name][1]:
                    raise OSError(errno.EIO, f'{source.name}/{name} has changed on the disk since it was written')
        for folder in folders_of(temporary):
            backend.sync_directory(folder)
    except BaseException:
        backend.remove(temporary)
        raise
    return temporary, copied


def stray_unit(directory: Path, name: str, digest: str) -> Path | None:
    """Find a whole unit under a hidden name, which a crash kept from getting (back) its own.

    Args:
        directory (Path): Where it would lie.
        name (str): Its name.
        digest (str): Its digest.
    """
    return next((path for path in directory.glob(f'.{name}.*') if is_unit(path) and not unit_fault(path, digest)), None)


def _content(directory: Path) -> list[Path]:
    return [path for path in files_below(directory) if path != directory / MANIFEST]
