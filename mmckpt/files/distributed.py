"""Directories of ``torch.distributed.checkpoint``, without a process group and without running their pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmckpt.errors import CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.files.archive import TorchArchive
from mmckpt.files.budget import Budget
from mmckpt.files.machine import PickleMachine
from mmckpt.files.meaning import Meaning
from mmckpt.files.nodes import ArrayRef, Named, Opaque, ShardedRef, TensorRef

METADATA = '.metadata'
# A piece is read as a whole to find its tensor; larger ones are left out of the values.
_LARGEST_PIECE = 1 << 30
_LARGEST_METADATA = 256 << 20
_DEEPEST = 60


def read_distributed(directory: Path, meaning: Meaning, budget: Budget) -> tuple[dict[str, Any], int, list[str]]:
    """Read what a sharded checkpoint holds.

    Args:
        directory (Path): Holds ``.metadata`` and ``*.distcp``.
        meaning (Meaning): Turns well-known calls into data, and keeps a list of the others.
        budget (Budget): What it may cost.

    Returns:
        tuple: The state dict that was saved, the bytes of all files, and notes.
    """
    if (directory / METADATA).stat().st_size > _LARGEST_METADATA:
        raise CorruptCheckpointError(f'its {METADATA} is larger than {_LARGEST_METADATA} bytes')
    data = (directory / METADATA).read_bytes()
    tree, _ = PickleMachine(data, 0, len(data), meaning, lambda pid: Opaque('persistent id', (pid,)), budget).run()
    state = tree.state if isinstance(tree, Opaque) else None
    entries = state.get('state_dict_metadata') if isinstance(state, dict) else None
    if not isinstance(entries, dict):
        raise CorruptCheckpointError(f'its {METADATA} does not list what it holds')
    pieces = _Pieces(directory, meaning, budget, state.get('storage_data'))
    found = {name: pieces.entry(name, entry) for name, entry in entries.items() if isinstance(name, str)}
    paths = state.get('planner_data')
    nested = _nested(found, paths if isinstance(paths, dict) else {})
    return nested, sum(f.stat().st_size for f in directory.iterdir() if f.is_file()), pieces.notes


class _Pieces:
    def __init__(self, directory: Path, meaning: Meaning, budget: Budget, storage_data: Any) -> None:
        self._directory, self._meaning, self._budget = directory, meaning, budget
        self._places = _places(storage_data)
        self.notes: list[str] = []

    def entry(self, name: str, entry: Any) -> Any:
        """Return a tensor, or the object that was saved under that name."""
        state = entry.state if isinstance(entry, Opaque) and isinstance(entry.state, dict) else {}
        size = state.get('size')
        parts = [(at, self._read(*place)) for at, place in self._places.get(name, [])]
        if not isinstance(size, tuple) or not all(type(n) is int for n in size):
            return parts[0][1] if len(parts) == 1 else Opaque('an object that is not in the files')
        pieces = tuple((at or (0,) * len(size), part) for at, part in parts if isinstance(part, TensorRef))
        stride = [1]
        for length in reversed(size[1:]):
            stride.append(stride[-1] * length)
        return ShardedRef(_dtype(state.get('properties')), size, tuple(reversed(stride)) if size else (), 0, None,
                          f'tensor in {len(pieces)} pieces', pieces)

    def _read(self, name: str, start: int, length: int) -> Any:
        path = self._directory / name
        if path.parent != self._directory or '..' in name or not path.is_file():
            self._note(f'{name[:80]!r} is missing or lies outside of the directory')
            return None
        if not 0 <= start <= start + length <= path.stat().st_size or length > _LARGEST_PIECE:
            self._note(f'{name[:80]!r} is truncated')
            return None
        with open(path, 'rb') as stream:
            stream.seek(start)
            piece = stream.read(length)
        try:
            return TorchArchive(piece, str(path), start).read(self._meaning, self._budget)
        except (CorruptCheckpointError, IncompatibleCheckpointError) as error:
            self._note(f'a piece in {name[:80]!r} cannot be read: {error}')
            return None

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 5:
            self.notes.append(text)


def _places(storage_data: Any) -> dict[str, list[tuple[tuple[int, ...] | None, tuple[str, int, int]]]]:
    """First index, file, first byte and length of the pieces, by name."""
    found: dict[str, list[tuple[tuple[int, ...] | None, tuple[str, int, int]]]] = {}
    for index, info in storage_data.items() if isinstance(storage_data, Mapping) else []:
        where, place = (part.state if isinstance(part, Opaque) else None for part in (index, info))
        if not isinstance(where, dict) or not isinstance(place, dict):
            continue
        name, file, at = where.get('fqn'), place.get('relative_path'), where.get('offset')
        start, length = place.get('offset'), place.get('length')
        if isinstance(name, str) and isinstance(file, str) and type(start) is int and type(length) is int:
            found.setdefault(name, []).append((at if isinstance(at, tuple) else None, (file, start, length)))
    return found


def _nested(found: dict[str, Any], paths: dict[Any, Any]) -> dict[str, Any]:
    """Put entries where they were before the names were joined by dots."""
    tree: dict[Any, Any] = {}
    for name, value in found.items():
        path = paths.get(name)
        keys = list(path) if isinstance(path, tuple) and all(isinstance(key, (str, int)) for key in path) else []
        node = tree
        for key in keys[:-1]:
            below = node.setdefault(key, {})
            if not isinstance(below, dict):
                node, keys = tree, []
                break
            node = below
        node[keys[-1] if keys else name] = value
    return {key: _with_lists(value, key) for key, value in tree.items()}


def _with_lists(value: Any, name: Any, depth: int = 0) -> Any:
    """Numbers in a path were places in a list; the numbers of parameters have become texts."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return value
    below = {key: _with_lists(item, key, depth + 1) for key, item in value.items()}
    if below and list(below) == list(range(len(below))):
        return list(below.values())
    if name == 'state' and all(isinstance(key, str) and key.isdecimal() for key in below):
        return {int(key): item for key, item in below.items()}
    return below


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
