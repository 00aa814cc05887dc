"""Where bytes go: through the page cache, or past it."""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import Protocol

CHUNK = 4 << 20
_ALIGNMENT = 4096


class Sink(Protocol):
    """A new file that is written once, from its beginning to its end."""

    def write(self, data: memoryview) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


class BufferedSink:
    """Writes through the page cache.

    Args:
        path (Path): A file that does not exist, or a leftover to be overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        data = data.cast('B')
        for start in range(0, len(data), CHUNK):
            _write_all(self._descriptor, data[start:start + CHUNK])

    def finish(self) -> None:
        """Make the bytes durable and close the file."""
        os.fsync(self._descriptor)
        self.abort()

    def abort(self) -> None:
        """Close the file as it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class DirectSink:
    """Writes past the page cache (``O_DIRECT``).

    A checkpoint does not push the training data out of memory that way, and
    costs no second copy in it.

    Args:
        path (Path): A file that does not exist, or a leftover to be overwritten.

    Raises:
        OSError: With ``EINVAL`` where the file system cannot do that.
    """

    def __init__(self, path: Path) -> None:
        if not hasattr(os, 'O_DIRECT'):
            raise OSError(22, 'this system has no O_DIRECT')
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_DIRECT
        self._descriptor = os.open(path, flags, 0o666)
        self._buffer = memoryview(mmap.mmap(-1, CHUNK))
        self._filled = 0

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        data = data.cast('B')
        while data:
            part = data[:CHUNK - self._filled]
            self._buffer[self._filled:self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part):]
            if self._filled == CHUNK:
                self._put(CHUNK)

    def finish(self) -> None:
        """Make the bytes durable and close the file."""
        whole = self._filled - self._filled % _ALIGNMENT
        rest = bytes(self._buffer[whole:self._filled])
        if whole:
            self._put(whole)
        # The last bytes do not fill a block, which O_DIRECT cannot write.
        self._through_cache()
        _write_all(self._descriptor, memoryview(rest))
        os.fsync(self._descriptor)
        self.abort()

    def abort(self) -> None:
        """Close the file as it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _put(self, count: int) -> None:
        try:
            _write_all(self._descriptor, self._buffer[:count])
        except OSError as error:
            # Some file systems open with O_DIRECT and refuse it at the first write.
            if error.errno != 22 or not self._is_direct():
                raise
            self._through_cache()
            _write_all(self._descriptor, self._buffer[:count])
        self._filled = 0

    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_DIRECT)

    def _through_cache(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data):]
