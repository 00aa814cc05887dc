"""Directories that are given a name, or lose it, as a whole."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}


def is_directory(path: Path) -> bool:
    """Whether a path is a directory itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def replace_directory(source: Path, target: Path, aside: Path) -> None:
    """Give a directory its final name, in place of the file or directory that had it; that one goes.

    Where the system can exchange two names (Linux, most local file systems),
    there is something under ``target`` at any moment; elsewhere it has no name
    for a moment, in which ``aside`` holds the old content.

    Args:
        source (Path): A directory, or a file that takes the place of one.
        target (Path): The name.
        aside (Path): A hidden name beside it.
    """
    if not os.path.lexists(target):
        os.rename(source, target)
    elif exchange(source, target):
        # What cannot be removed now goes when the next training starts.
        _remove(source)
    else:
        _remove(aside)
        os.rename(target, aside)
        try:
            os.rename(source, target)
        except OSError:
            os.rename(aside, target)
            raise
        _remove(aside)


def remove_directory(path: Path, aside: Path) -> None:
    """Remove a directory (or file); under its own name it is never seen in part.

    Args:
        path (Path): What goes.
        aside (Path): A hidden name beside it, or itself if it is hidden.
    """
    if not is_directory(path):
        path.unlink(missing_ok=True)
        return
    if path != aside:
        _remove(aside)
        os.rename(path, aside)
    shutil.rmtree(aside)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if path.exists() and not path.is_dir():
        path.unlink()


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or directories at one moment; return False where that cannot be done."""
    call = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in _NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    return False


def files_below(directory: Path) -> list[Path]:
    """Return all files of a directory and of those in it, sorted."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(directory) for name in names)


def folders_of(directory: Path) -> Iterator[Path]:
    """Yield a directory and all in it, the innermost first."""
    for parent, _, _ in os.walk(directory, topdown=False):
        yield Path(parent)
