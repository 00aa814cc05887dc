"""The zip files of ``torch.save``, looked at without unpacking anything."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from typing import Any

from mmckpt.errors import CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.files.budget import Budget
from mmckpt.files.machine import PickleMachine
from mmckpt.files.meaning import Meaning, dtype_of_storage, text_of
from mmckpt.files.nodes import Opaque, Place, Storage

# 150,000 tensors; the list of names is read as a whole.
_LARGEST_DIRECTORY = 16 << 20
_LARGEST_PACKED_PICKLE = 64 << 20


class TorchArchive:
    """A zip file of ``torch.save``; names in it are compared, never used as paths.

    Args:
        data (mmap or bytes): The file, or a part of one that is a zip file by itself.
        path (str): Its name, for the places of tensors.
        base (int): Where ``data`` begins in that file. Defaults to 0.

    Attributes:
        notes (list[str]): What is odd about it.
    """

    def __init__(self, data: Any, path: str, base: int = 0) -> None:
        self._data, self._path, self._base = data, path, base
        self.notes: list[str] = []
        _check_directory(data)
        try:
            with zipfile.ZipFile(_File(data)) as archive:
                self._entries = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError, struct.error) as error:
            raise CorruptCheckpointError(f'it is not a whole zip archive ({error})') from error
        pickles = sorted((name for name in self._entries if re.fullmatch(r'([^/]+/)?data\.pkl', name)), key=len)
        if not pickles:
            raise IncompatibleCheckpointError(
                f'it is a zip file without data.pkl, so torch.save did not write it; it holds {self._some_names()}')
        self._prefix = pickles[0][:-len('data.pkl')]
        self._look_around()

    def read(self, meaning: Meaning, budget: Budget) -> Any:
        """Return the tree of values that its pickle describes."""
        data, start, stop = self._pickle(budget)
        value, _ = PickleMachine(data, start, stop, meaning, self._persistent, budget).run()
        return value

    def _persistent(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == 'storage' and isinstance(pid[2], str)
                and type(pid[4]) is int):
            return Opaque('an unknown persistent id', (pid,))
        return Storage(pid[2], dtype_of_storage(pid[1]), pid[4], text_of(pid[3])[:40], self._place(pid[2]))

    def _place(self, key: str) -> Place | None:
        info = self._entries.get(f'{self._prefix}data/{key}')
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            return None
        start = self._start_of(info)
        if start is None:
            return None
        return Place(self._path, self._base + start, info.file_size, self._big_endian)

    def _start_of(self, info: zipfile.ZipInfo) -> int | None:
        """Where the bytes of an entry begin; None if they would not lie inside the file."""
        head = bytes(self._data[info.header_offset:info.header_offset + 30])
        if len(head) < 30 or head[:4] != b'PK\x03\x04':
            return None
        names, extra = struct.unpack('<HH', head[26:30])
        start = info.header_offset + 30 + names + extra
        return start if start + info.compress_size <= len(self._data) else None

    def _pickle(self, budget: Budget) -> tuple[Any, int, int]:
        info = self._entries[f'{self._prefix}data.pkl']
        start = self._start_of(info)
        if start is None:
            raise CorruptCheckpointError('its data.pkl lies outside of the file')
        if info.compress_type == zipfile.ZIP_STORED:
            return self._data, start, start + info.file_size
        if info.file_size > _LARGEST_PACKED_PICKLE:
            raise CorruptCheckpointError(
                f'its data.pkl is packed ({info.compress_size} bytes) and would become {info.file_size}: a zip bomb')
        if info.compress_type != zipfile.ZIP_DEFLATED:
            # The others may ask for gigabytes before the first byte.
            raise CorruptCheckpointError(f'its data.pkl is packed by method {info.compress_type}, as torch never does')
        try:
            with zipfile.ZipFile(_File(self._data)) as archive, archive.open(info) as file:
                # What the header says may be a lie.
                data = file.read(_LARGEST_PACKED_PICKLE + 1)
        except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, zlib.error) as error:
            raise CorruptCheckpointError(f'its data.pkl cannot be unpacked ({error})') from error
        budget.take(len(data))
        return data, 0, len(data)

    def _look_around(self) -> None:
        names = list(self._entries)
        odd = [name for name in names if name.startswith(('/', '\\')) or '..' in re.split(r'[/\\]', name)]
        if odd:
            self.notes.append(f'{len(odd)} names in it point out of the archive, such as {odd[0][:80]!r}; nothing is '
                              'unpacked')
        packed = [i for i in self._entries.values() if i.compress_type != zipfile.ZIP_STORED]
        if packed:
            worst = max(packed, key=lambda info: info.file_size / max(1, info.compress_size))
            self.notes.append(f'{len(packed)} of its parts are packed, which torch never does '
                              f'({worst.filename[:60]!r}: '
                              f'{worst.compress_size} bytes would become {worst.file_size})')
        if any(name.startswith(f'{self._prefix}code/') for name in names):
            self.notes.append('it is a TorchScript archive: it holds code, which is not looked at')
        order = self._entries.get(f'{self._prefix}byteorder')
        start = None if order is None else self._start_of(order)
        self._big_endian = start is not None and self._data[start:start + 3] == b'big'
        if self._big_endian:
            self.notes.append('its numbers are big-endian, written by another kind of processor')

    def _some_names(self) -> str:
        return ', '.join(repr(name[:60]) for name in list(self._entries)[:3]) or 'nothing'


def _check_directory(data: Any) -> None:
    """Refuse a list of names that is out of proportion before the zip library reads it."""
    tail = bytes(data[max(0, len(data) - 65557):])
    at = tail.rfind(b'PK\x05\x06')
    if at < 0 or len(tail) - at < 22:
        raise CorruptCheckpointError('it is not a whole zip archive: its end is missing, it was cut off')
    size = struct.unpack('<I', tail[at + 12:at + 16])[0]
    locator = tail[at - 20:at] if at >= 20 else b''
    if locator[:4] == b'PK\x06\x07':
        where = struct.unpack('<Q', locator[8:16])[0]
        record = bytes(data[where:where + 56])
        if record[:4] == b'PK\x06\x06':
            size = struct.unpack('<Q', record[40:48])[0]
    if size > _LARGEST_DIRECTORY:
        raise CorruptCheckpointError(f'its list of names takes {size} bytes, more than {_LARGEST_DIRECTORY}: no '
                                     'checkpoint needs that, so it is broken or hostile')


class _File:
    """The reading half of a file object over bytes or a memory map."""

    def __init__(self, data: Any) -> None:
        self._data, self._at = data, 0

    def read(self, count: int = -1) -> bytes:
        end = len(self._data) if count is None or count < 0 else min(len(self._data), self._at + count)
        found, self._at = bytes(self._data[self._at:end]), max(self._at, end)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise OSError('before the beginning of the file')
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True
