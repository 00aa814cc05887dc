"""The structure of a remote checkpoint without its tensors: for who only looks, a few kilobytes of gigabytes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmckpt.errors import CorruptCheckpointError
from mmckpt.store.record import Record
from mmckpt.store.remote import RemoteDirectory

# Bytes at the end of the file that are read at once: the directory of some hundred tensors.
_TAIL = 1 << 16
_LOCAL_HEADER = '<4s22xHH'


def fetch_outline(remote: RemoteDirectory, record: Record, target: Path) -> int:
    """Make a local file that has all of a remote one but the values of its tensors, which are zeros.

    It is sparse: it takes little room, and ``load_checkpoint(target, mmap=True)``
    gives names, shapes and all plain values.

    Args:
        remote (RemoteDirectory): Where the file is.
        record (Record): The file; one that has another size is refused.
        target (Path): The file to make.

    Returns:
        int: How many bytes travelled.

    Raises:
        CorruptCheckpointError: If it is not a whole zip archive.
        RemoteError: If the storage does not answer.
    """
    source = _Ranges(remote, record)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError) as error:
        raise CorruptCheckpointError(f'{remote.url}/{record.name} is not a whole checkpoint: {error}. Use another '
                                     'one.') from error
    with open(target, 'wb') as file:
        file.truncate(record.size)
        for start, data in _parts(archive, source):
            file.seek(start)
            file.write(data)
    return source.bytes_read


def _parts(archive: zipfile.ZipFile, source: _Ranges) -> Iterator[tuple[int, bytes]]:
    """Yield what goes where: all that is not a tensor, and the headers without which none is found."""
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    ends = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
    for entry, end in zip(entries, ends):
        if '/data/' in entry.filename:
            # What it says of the length of the name must be right; where the tensor begins is nobody's question.
            yield entry.header_offset, struct.pack(_LOCAL_HEADER, b'PK\x03\x04', len(entry.filename.encode()), 0)
        else:
            yield entry.header_offset, source.read_range(entry.header_offset, end)
    yield archive.start_dir, source.read_range(archive.start_dir, source.size)


class _Ranges(io.RawIOBase):
    """A remote file that is read in ranges; its end, which zip archives begin with, once."""

    def __init__(self, remote: RemoteDirectory, record: Record) -> None:
        self.remote, self.name, self.size = remote, record.name, record.size
        self.bytes_read = 0
        self._at = 0
        self._tail_start = max(0, self.size - _TAIL)
        self._tail = self._fetch(self._tail_start, self.size)

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` to ``end``."""
        if start >= self._tail_start:
            return self._tail[start - self._tail_start:end - self._tail_start]
        return self._fetch(start, end)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        data = self.read_range(self._at, end) if end > self._at else b''
        self._at += len(data)
        return data

    def _fetch(self, start: int, end: int) -> bytes:
        data = self.remote.read_range(self.name, start, end)
        self.bytes_read += len(data)
        return data
