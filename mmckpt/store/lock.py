"""One training process a directory: a POSIX lock that dies with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from logging import Logger
from pathlib import Path
from typing import Any

import psutil

from mmckpt.errors import LockedError

LOCK_NAME = '.mmckpt.lock'
OWNER_NAME = '.mmckpt.lock.json'

# Closing any descriptor of a POSIX-locked file drops the lock of the whole
# process, so each locked directory has exactly one descriptor here.
_held: dict[str, list[int]] = {}


class DirectoryLock:
    """Keeps other processes from training into a directory.

    The lock belongs to the process and vanishes with it, however it ends;
    forked workers do not inherit it. Several holders in one process share it.
    A file beside the lock names the owner, for the message that a second
    process gets.

    Args:
        directory (Path): An existing directory.
        logger (Logger): Where a take-over is said.
    """

    def __init__(self, directory: Path, logger: Logger) -> None:
        self.key = os.path.realpath(directory)
        self.owner_path = Path(self.key, OWNER_NAME)
        self.logger = logger
        self._mine = False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockedError: If another process holds it.
        """
        entry = _held.get(self.key)
        if entry is not None:
            entry[1] += 1
        else:
            _held[self.key] = [self._lock_file(), 1]
            self._name_owner()
        self._mine = True

    def release(self) -> None:
        """Give the lock back; the last holder in this process unlocks the directory."""
        if not self._mine:
            return
        self._mine = False
        entry = _held[self.key]
        entry[1] -= 1
        if entry[1] == 0:
            del _held[self.key]
            self.owner_path.unlink(missing_ok=True)
            os.close(entry[0])

    @property
    def shared(self) -> bool:
        """Whether somebody else in this process holds it too."""
        return self.key in _held and _held[self.key][1] > 1

    def _lock_file(self) -> int:
        descriptor = os.open(Path(self.key, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                raise LockedError(self._who_holds_it()) from None
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                os.close(descriptor)
                raise
            self.logger.warning(
                'The file system of %s knows no locks (%s): make sure yourself that only one training writes '
                'there.', self.key, error)
        return descriptor

    def _who_holds_it(self) -> str:
        owner = _read_owner(self.owner_path) or {}
        return (f"Another training process writes into {self.key}: process {owner.get('pid', '?')} on host "
                f"{owner.get('host', '?')}, since {owner.get('since', '?')}. Wait for it or stop it, or "
                'choose another work_dir for this run.')

    def _name_owner(self) -> None:
        before = _read_owner(self.owner_path)
        if before is not None:
            self.logger.warning(
                'Took over %s from process %s on host %s (since %s), which ended without closing it.',
                self.key, before.get('pid', '?'), before.get('host', '?'), before.get('since', '?'))
        owner = dict(host=socket.gethostname(), pid=os.getpid(), start=process_start(os.getpid()),
                     since=time.strftime('%Y-%m-%d %H:%M:%S'))
        self.owner_path.write_text(json.dumps(owner), encoding='utf-8')


def process_start(pid: int) -> int | None:
    """Return a number that tells a process from an earlier one with the same id, or None if it is gone.

    Example:
        >>> process_start(os.getpid()) == process_start(os.getpid())
        True
    """
    try:
        # Ticks since boot: unlike psutil's wall-clock time, they do not move with the clock.
        text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace')
        return int(text.rpartition(')')[2].split()[19])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _read_owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}
