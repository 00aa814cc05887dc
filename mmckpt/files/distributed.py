"""Directories of ``torch.distributed.checkpoint``, without a process group and without running their pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.budget import Budget
from mmckpt.files.machine import PickleMachine
from mmckpt.files.meaning import Meaning
from mmckpt.files.nodes import ArrayRef, Named, Opaque, Place, Storage, TensorRef

METADATA = '.metadata'


def read_distributed(directory: Path, meaning: Meaning, budget: Budget) -> tuple[dict[str, Any], int, list[str]]:
    """Read the names, shapes and places of what a sharded checkpoint holds.

    Args:
        directory (Path): Holds ``.metadata`` and ``*.distcp``.
        meaning (Meaning): Turns well-known calls into data.
        budget (Budget): What it may cost.

    Returns:
        tuple: Tensors and other entries by name, the bytes of all files, and notes.
    """
    data = (directory / METADATA).read_bytes()
    tree, _ = PickleMachine(data, 0, len(data), meaning, lambda pid: Opaque('persistent id', (pid,)), budget).run()
    state = tree.state if isinstance(tree, Opaque) else None
    entries = state.get('state_dict_metadata') if isinstance(state, dict) else None
    if not isinstance(entries, dict):
        raise CorruptCheckpointError(f'its {METADATA} does not list what it holds')
    shards = _shards(state.get('storage_data'))
    missing = sorted({name for places in shards.values() for name, _, _ in places
                      if _inside(directory, name) is None})
    notes = [f'{name[:80]!r} is missing or lies outside of the directory' for name in missing[:5]]
    found = {name: _entry(directory, name, entry, shards.get(name, [])) for name, entry in entries.items()
             if isinstance(name, str)}
    return found, sum(f.stat().st_size for f in directory.iterdir() if f.is_file()), notes


def _entry(directory: Path, name: str, entry: Any, places: list[tuple[str, int, int]]) -> Any:
    state = entry.state if isinstance(entry, Opaque) and isinstance(entry.state, dict) else {}
    size = state.get('size')
    if not isinstance(size, tuple):
        return Opaque('bytes of an object', (f'{sum(length for _, _, length in places)} bytes',))
    stride = [1]
    for length in reversed(size[1:]):
        stride.append(stride[-1] * length)
    return TensorRef(_dtype(state.get('properties')), size, tuple(reversed(stride)) if size else (), 0,
                     _whole(directory, name, size, places), 'sharded tensor')


def _whole(directory: Path, name: str, size: tuple, places: list[tuple[str, int, int]]) -> Storage | None:
    """The bytes of a tensor that lies in one piece; a piece is a file of ``torch.save`` by itself."""
    if len(places) != 1:
        return None
    file, start, length = places[0]
    path = _inside(directory, file)
    if path is None or not 0 <= start <= start + length <= path.stat().st_size:
        return None
    from mmckpt.files.archive import TorchArchive

    with open(path, 'rb') as stream:
        stream.seek(start)
        piece = stream.read(length) if length < (64 << 20) else b''
    if not piece.startswith(b'PK'):
        return None
    try:
        tensor = TorchArchive(piece, str(path), start).read(Meaning(), Budget())
    except CorruptCheckpointError:
        return None
    whole = isinstance(tensor, TensorRef) and tensor.shape == size and tensor.storage is not None
    return tensor.storage if whole and tensor.offset == 0 and isinstance(tensor.storage.place, Place) else None


def _shards(storage_data: Any) -> dict[str, list[tuple[str, int, int]]]:
    found: dict[str, list[tuple[str, int, int]]] = {}
    for index, info in storage_data.items() if isinstance(storage_data, Mapping) else []:
        where, place = (part.state if isinstance(part, Opaque) else None for part in (index, info))
        if isinstance(where, dict) and isinstance(place, dict):
            name, file = where.get('fqn'), place.get('relative_path')
            numbers = (place.get('offset'), place.get('length'))
            if isinstance(name, str) and isinstance(file, str) and all(type(n) is int for n in numbers):
                found.setdefault(name, []).append((file, *numbers))
    return found


def _inside(directory: Path, name: str) -> Path | None:
    path = directory / name
    return path if path.parent == directory and '..' not in name and path.is_file() else None


def _dtype(properties: Any) -> str:
    for part in _leaves(properties):
        if isinstance(part, Named) and part.module == 'torch':
            return part.name
    return 'unknown'


def _leaves(tree: Any, depth: int = 5) -> Any:
    if isinstance(tree, Opaque) and depth:
        yield from _leaves(tree.args, depth - 1)
        yield from _leaves(tree.state, depth - 1)
    elif isinstance(tree, (tuple, list)) and depth:
        for item in tree:
            yield from _leaves(item, depth - 1)
    elif isinstance(tree, dict) and depth:
        for item in tree.values():
            yield from _leaves(item, depth - 1)
    elif isinstance(tree, (Named, ArrayRef)):
        yield tree
