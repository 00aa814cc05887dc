"""A tree whose size is what it looks like: no cycles, no endless nesting, no doubling by shared parts."""

from __future__ import annotations

from typing import Any

from mmckpt.files.nodes import ArrayRef, Named, Opaque, Storage, TensorRef

MAX_DEPTH = 60
MAX_VALUES = 400_000
_LEAVES = (TensorRef, ArrayRef, Named, Storage)


def bounded(tree: Any, notes: list[str]) -> Any:
    """Copy a tree into plain dicts, lists and tuples that are safe to walk recursively.

    A pickle can hold a list that contains itself, a million nested tuples, or
    fifty lists each of which holds the one before twice. What goes beyond the
    limits becomes a placeholder.

    Args:
        tree (Any): What a pickle held.
        notes (list[str]): Gets a line if something was cut.

    Example:
        >>> inner = []
        >>> inner.append(inner)
        >>> notes = []
        >>> _ = bounded({'a': inner}, notes)
        >>> notes
        ['parts of it contain themselves or are nested more than 60 deep; they are cut off']
    """
    copier = _Copier()
    copy = copier.copy(tree, 0)
    if copier.too_deep:
        notes.append(f'parts of it contain themselves or are nested more than {MAX_DEPTH} deep; they are cut off')
    if copier.left < 0:
        notes.append(f'it unfolds to more than {MAX_VALUES} values; the rest is cut off')
    return copy


class _Copier:
    def __init__(self) -> None:
        self.left = MAX_VALUES
        self.too_deep = False
        self._around: set[int] = set()

    def copy(self, value: Any, depth: int) -> Any:
        self.left -= 1
        kind = type(value)
        if kind not in (dict, list, tuple, Opaque):
            return value if isinstance(value, (*_LEAVES, str, int, float, bytes, memoryview)) or value is None \
                else str(value)
        if self.left < 0:
            return Opaque('(cut off)')
        if depth >= MAX_DEPTH or id(value) in self._around:
            self.too_deep = True
            return Opaque('(cut off)')
        self._around.add(id(value))
        try:
            return self._container(value, depth + 1)
        finally:
            self._around.discard(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {self._key(k, depth): self.copy(v, depth) for k, v in self._some(value.items())}
        if isinstance(value, list):
            return [self.copy(item, depth) for item in self._some(value)]
        if isinstance(value, tuple):
            return tuple([self.copy(item, depth) for item in self._some(value)])
        return Opaque(value.name, self.copy(value.args, depth), self.copy(value.state, depth),
                      self.copy(value.items, depth))

    def _key(self, key: Any, depth: int) -> Any:
        return self.copy(key, depth) if isinstance(key, Opaque) else key

    def _some(self, values: Any) -> Any:
        for value in values:
            if self.left < 0:
                return
            yield value
