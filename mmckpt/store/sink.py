"""Where bytes go: through the page cache, or past it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import queue
import threading
from pathlib import Path
from typing import Protocol

CHUNK = 2 << 20
# Enough to keep the disk busy while torch computes the zip checksum of the next tensor.
_BUFFERS = 8


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
    """Writes past the page cache (``O_DIRECT``), on a thread of its own once there is enough to write.

    A checkpoint does not push the training data out of memory that way, and
    the next bytes are hashed and copied while the disk takes the last ones.
    It needs at most 16 MiB of memory.

    Args:
        path (Path): A file that does not exist, or a leftover to be overwritten.

    Raises:
        OSError: With ``EINVAL`` where the file system cannot do that.
    """

    def __init__(self, path: Path) -> None:
        if not hasattr(os, 'O_DIRECT'):
            raise OSError(errno.EINVAL, 'this system has no O_DIRECT')
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_DIRECT
        self._descriptor = os.open(path, flags, 0o666)
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._buffers = 0
        self._current: memoryview | None = None
        self._filled = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def write(self, data: memoryview) -> None:
        """Append bytes; an error of earlier ones is raised here or in :meth:`finish`."""
        data = data.cast('B')
        while data:
            if self._current is None:
                self._current = self._next_buffer()
            part = data[:CHUNK - self._filled]
            self._current[self._filled:self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part):]
            if self._filled == CHUNK:
                self._hand_over()

    def finish(self) -> None:
        """Make the bytes durable and close the file."""
        self._stop_thread()
        if self._error is not None:
            raise self._error
        if self._current is not None:
            # The last bytes do not fill a block, which O_DIRECT cannot write.
            self._through_cache()
            _write_all(self._descriptor, self._current[:self._filled])
        os.fsync(self._descriptor)
        self.abort()

    def abort(self) -> None:
        """Close the file as it is."""
        self._stop_thread()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _next_buffer(self) -> memoryview:
        if self._error is not None:
            raise self._error
        if self._buffers < _BUFFERS and self._free.empty():
            self._buffers += 1
            # Anonymous maps begin at a page, as O_DIRECT wants it.
            return memoryview(mmap.mmap(-1, CHUNK))
        return self._free.get()

    def _hand_over(self) -> None:
        assert self._current is not None
        self._filled = 0
        if self._thread is None and not self._start_thread():
            self._put(self._current)
            return
        self._full.put(self._current)
        self._current = None

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name='mmckpt-disk', daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # An interpreter that is ending starts no more threads.
            return False
        self._thread = thread
        return True

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._full.put(None)
            thread.join()

    def _work(self) -> None:
        while True:
            buffer = self._full.get()
            if buffer is None:
                return
            try:
                if self._error is None:
                    self._put(buffer)
            except OSError as error:
                self._error = error
            self._free.put(buffer)

    def _put(self, buffer: memoryview) -> None:
        try:
            _write_all(self._descriptor, buffer)
        except OSError as error:
            # Some file systems open with O_DIRECT and refuse it at the first write.
            if error.errno != errno.EINVAL or not self._is_direct():
                raise
            self._through_cache()
            _write_all(self._descriptor, buffer)

    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_DIRECT)

    def _through_cache(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data):]
