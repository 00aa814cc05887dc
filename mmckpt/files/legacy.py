"""Files of ``torch.save`` before torch 1.6, and bare pickles."""

from __future__ import annotations

import struct
from typing import Any

from mmckpt.errors import CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.files.budget import Budget
from mmckpt.files.machine import PickleMachine
from mmckpt.files.meaning import Meaning, dtype_of_storage, text_of
from mmckpt.files.nodes import WIDTHS, Opaque, Place, Storage

_MAGIC = 0x1950a86a20f9469cfc6c
_PROTOCOL = 1001


def read_legacy(data: Any, path: str, meaning: Meaning, budget: Budget) -> tuple[str, Any]:
    """Read a stream of pickles followed by the bytes of the storages.

    Args:
        data (mmap or bytes): The file.
        path (str): Its name, for the places of tensors.
        meaning (Meaning): Turns well-known calls into data.
        budget (Budget): What it may cost.

    Returns:
        tuple: ``'old torch file'`` or ``'pickle'``, and its tree of values.
    """
    def read(at: int, persistent: Any) -> tuple[Any, int]:
        return PickleMachine(data, at, len(data), meaning, persistent, budget).run()

    first, end = read(0, lambda pid: Opaque('an unknown persistent id', (pid,)))
    if first != _MAGIC:
        return 'pickle', first
    protocol, end = read(end, lambda pid: Opaque('an unknown persistent id', (pid,)))
    if protocol != _PROTOCOL:
        raise IncompatibleCheckpointError(f'it is a torch file of protocol {protocol!r}, and {_PROTOCOL} is known')
    _, end = read(end, lambda pid: Opaque('an unknown persistent id', (pid,)))
    # The tensors come first and the places of their bytes last, so the pickle is read again with them.
    found: dict[str, tuple[str, int]] = {}
    _, behind = read(end, lambda pid: _note(pid, found))
    places = _places(data, path, read, behind, found)
    tree, _ = read(end, lambda pid: _storage(pid, places))
    return 'old torch file', tree


def _note(pid: Any, found: dict[str, tuple[str, int]]) -> Any:
    if _is_storage(pid):
        found[pid[2]] = (dtype_of_storage(pid[1]), pid[4])
    return Opaque('a storage')


def _storage(pid: Any, places: dict[str, Place]) -> Any:
    if not _is_storage(pid):
        return Opaque('an unknown persistent id', (pid,))
    view = pid[5] if len(pid) > 5 else None
    if isinstance(view, tuple):
        return Opaque('a view of a storage of torch 0.3', (pid,))
    return Storage(pid[2], dtype_of_storage(pid[1]), pid[4], text_of(pid[3])[:40], places.get(pid[2]))


def _is_storage(pid: Any) -> bool:
    return (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == 'storage' and isinstance(pid[2], str)
            and type(pid[4]) is int)


def _places(data: Any, path: str, read: Any, at: int, found: dict[str, tuple[str, int]]) -> dict[str, Place]:
    try:
        keys, at = read(at, lambda pid: Opaque('an unknown persistent id', (pid,)))
    except CorruptCheckpointError:
        return {}
    places: dict[str, Place] = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in found or at + 8 > len(data):
            break
        dtype, _ = found[key]
        nbytes = struct.unpack('<q', data[at:at + 8])[0] * WIDTHS.get(dtype, 0)
        if nbytes < 0 or at + 8 + nbytes > len(data):
            break
        places[key] = Place(path, at + 8, nbytes)
        at += 8 + nbytes
    return places
