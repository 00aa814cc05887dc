"""That a file has just been verified, handed over from who chose it to who loads it, so that it is not read twice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """The state of a file from before its bytes were read and found to be those that were written.

    A file that anybody has written to, replaced, or given another name since has another one.

    Args:
        path (str): Without links.
        device (int): Of the file system.
        inode (int): Of the file; a file that takes its place has another one.
        size (int): Bytes.
        mtime_ns (int): When its bytes were changed last.
        ctime_ns (int): When anything of it was changed last; nobody can set it back.
        digest (str): What its bytes were found to have.
    """

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str

    @classmethod
    def of(cls, path: Path, digest: str) -> Verdict | None:
        """Return what a verdict on a file would say now; None where there is none, or no digest."""
        try:
            status = os.stat(path)
        except OSError:
            return None
        if not digest or not os.path.isfile(path):
            return None
        return cls(os.path.realpath(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
                   status.st_ctime_ns, digest)


class _Handed:
    """The last file that was verified in this process, and the one that was handed over."""

    verified: Verdict | None = None
    waiting: Verdict | None = None


def note_verified(verdict: Verdict | None) -> None:
    """Remember the file that was verified last; :func:`hand_over` says who may rely on it."""
    _Handed.verified = verdict


def hand_over(path: str | os.PathLike) -> None:
    """Let the next :func:`take_verdict` of a file rely on its verification, if that was the last one here.

    Args:
        path (str or Path): The file that was chosen.

    Example:
        >>> hand_over('never_verified.pth')
        >>> take_verdict(Path('never_verified.pth'), 'xxh3-128:00')
        False
    """
    verdict, _Handed.verified = _Handed.verified, None
    _Handed.waiting = verdict if verdict is not None and verdict.path == os.path.realpath(path) else None


def take_verdict(path: Path, digest: str) -> bool:
    """Whether a file was verified for the caller and is untouched since; the answer is given once.

    Args:
        path (Path): The file.
        digest (str): What it must have.
    """
    if _Handed.waiting is None or _Handed.waiting.path != os.path.realpath(path):
        return False
    verdict, _Handed.waiting = _Handed.waiting, None
    return verdict == Verdict.of(path, digest)
