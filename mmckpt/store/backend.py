"""The operations on a file system that the store is made of, and the durable ways to combine them."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Protocol

import xxhash

from mmckpt.store.directories import is_directory, remove_directory, replace_directory
from mmckpt.store.lock import process_start
from mmckpt.store.sink import BufferedSink, DirectSink, Sink

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
_NO_DIRECT = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}
_TEMPORARY_SUFFIX = '.tmp'


class StorageBackend(Protocol):
    """What the store needs from a file system."""

    def create(self, path: Path) -> Sink: ...
    def replace(self, source: Path, target: Path) -> None: ...
    def sync_file(self, path: Path) -> None: ...
    def sync_directory(self, directory: Path) -> None: ...
    def link(self, source: Path, target: Path) -> bool: ...
    def remove(self, path: Path) -> None: ...
    def free_bytes(self, directory: Path) -> int: ...


class LocalBackend:
    """A POSIX file system."""

    def create(self, path: Path) -> Sink:
        """Open a new file for writing, past the page cache where the file system can do that."""
        try:
            return DirectSink(path)
        except OSError as error:
            if error.errno not in _NO_DIRECT:
                raise
            return BufferedSink(path)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file or directory its final name, in place of whatever had that name."""
        if is_directory(source) or is_directory(target):
            replace_directory(source, target, _aside(target))
        else:
            os.replace(source, target)

    def sync_file(self, path: Path) -> None:
        """Make the bytes of a file durable that somebody else has written."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, directory: Path) -> None:
        """Make names durable that were made, replaced or removed in a directory."""
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems sync names by themselves and refuse this.
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> bool:
        """Make a hard link; return False where the file system has none."""
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        return True

    def remove(self, path: Path) -> None:
        """Remove a file or directory that may be gone already."""
        remove_directory(path, path if path.name.startswith('.') else _aside(path))

    def free_bytes(self, directory: Path) -> int:
        """Return the bytes that this user may still write, quotas included where ``statvfs`` knows them."""
        space = os.statvfs(directory)
        return space.f_bavail * space.f_frsize


@dataclass(frozen=True)
class Written:
    """Size in bytes and digest of what was written."""

    size: int
    digest: str


class HashingFile:
    """A file object for ``torch.save`` that hashes what goes through it.

    The first error is kept and the rest is discarded, because torch's zip
    writer answers an exception in ``write`` with one of its own that hides it;
    :meth:`finish` raises it.

    Args:
        sink (Sink): Where the bytes go.
        on_bytes (callable): Called with the number of bytes so far.
    """

    def __init__(self, sink: Sink, on_bytes: Callable[[int], None]) -> None:
        self.sink = sink
        self.size = 0
        self.error: BaseException | None = None
        self._hash = xxhash.xxh3_128()
        self._on_bytes = on_bytes

    def write(self, data: bytes) -> int:
        """Take bytes or a memoryview."""
        if self.error is None:
            try:
                self._hash.update(data)
                self.sink.write(memoryview(data))
                self.size += len(data)
                self._on_bytes(self.size)
            except BaseException as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: :meth:`finish` makes the bytes durable."""

    def finish(self) -> Written:
        """Return size and digest once the bytes are on the device; raise what went wrong before."""
        if self.error is not None:
            raise self.error
        self.sink.finish()
        return Written(self.size, f'xxh3-128:{self._hash.hexdigest()}')


def write_temporary(backend: StorageBackend, target: Path, produce: Callable[[HashingFile], object],
                    on_bytes: Callable[[int], None] = lambda size: None) -> tuple[Path, Written]:
    """Write a durable file under a temporary name beside ``target``; nothing is left of it if that fails.

    Args:
        backend (StorageBackend): The file system.
        target (Path): The name that it will get; untouched.
        produce (callable): Writes into the file object that it is given.
        on_bytes (callable): Called with the number of bytes so far.

    Returns:
        tuple: The temporary path, and size and digest.
    """
    temporary = temporary_path(target)
    sink: Sink | None = None
    try:
        sink = backend.create(temporary)
        file = HashingFile(sink, on_bytes)
        produce(file)
        written = file.finish()
    except BaseException:
        if sink is not None:
            sink.abort()
        backend.remove(temporary)
        raise
    return temporary, written


def rename(backend: StorageBackend, temporary: Path, target: Path) -> None:
    """Give a temporary file its final name; the temporary is removed if that fails."""
    try:
        backend.replace(temporary, target)
    except BaseException:
        backend.remove(temporary)
        raise


def write_text_durably(backend: StorageBackend, target: Path, text: str) -> None:
    """Replace a small text file: readers see the old or the new one, also after a power cut."""
    temporary, _ = write_temporary(backend, target, lambda file: file.write(text.encode()))
    rename(backend, temporary, target)
    backend.sync_directory(target.parent)


def link_temporary(backend: StorageBackend, source: Path, target: Path) -> tuple[Path, Written | None]:
    """Put a hard link to ``source``, or a durable copy, under a temporary name beside ``target``.

    Returns:
        tuple: The temporary path, and what was written if it is a copy.
    """
    temporary = temporary_path(target)
    backend.remove(temporary)
    if backend.link(source, temporary):
        return temporary, None
    with open(source, 'rb') as original:
        return write_temporary(backend, target, lambda file: shutil.copyfileobj(original, file, 1 << 22))


def file_digest(path: Path, on_bytes: Callable[[int], None] = lambda size: None) -> str:
    """Return ``'xxh3-128:<hex>'`` of a file's bytes.

    Args:
        path (Path): The file.
        on_bytes (callable): Called with the number of bytes read so far.
    """
    hashed, size = xxhash.xxh3_128(), 0
    with open(path, 'rb', buffering=0) as file:
        buffer = memoryview(bytearray(1 << 22))
        while True:
            count = file.readinto(buffer)
            if not count:
                return f'xxh3-128:{hashed.hexdigest()}'
            hashed.update(buffer[:count])
            size += count
            on_bytes(size)


def temporary_path(target: Path) -> Path:
    """Return a hidden name beside ``target`` that tells which process is writing it."""
    owner = f'{socket.gethostname()}-{os.getpid()}-{process_start(os.getpid())}'
    return target.with_name(f'.{target.name}.{owner}{_TEMPORARY_SUFFIX}')


def _aside(target: Path) -> Path:
    """A hidden name for what is on its way out."""
    return temporary_path(target.with_name(f'{target.name}.old'))


def dead_temporaries(directory: Path) -> list[Path]:
    """Return the temporary files whose writer is gone.

    Call it with the directory's lock held: then a writer on another host is
    gone as well, or it would hold the lock.
    """
    host = socket.gethostname()
    dead = []
    for path in directory.glob(f'.*{_TEMPORARY_SUFFIX}'):
        owner = path.name[:-len(_TEMPORARY_SUFFIX)].rsplit('-', 2)
        if len(owner) != 3 or not owner[1].isdigit():
            continue
        here = owner[0].endswith(f'.{host}')
        if not here or str(process_start(int(owner[1]))) != owner[2]:
            dead.append(path)
    return dead
