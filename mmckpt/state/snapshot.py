"""Staging: a private copy of a training state, made fast enough for the training thread."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any, Callable, Optional

import torch

from mmckpt.errors import SaveError
from mmckpt.store.tree import (
    Component,
    components,
    copies_by_value,
    has_plain_storage,
    map_tree,
    raw_bytes,
    view_like,
)

Staged = Callable[[], Any]
# Where in a tree a value lies: where its container lies, and its key. Cheap to make; put into words for errors only.
_Path = Optional[tuple[Any, Any]]

# Values of these types cannot change, so the copy may share them.
_SHARED = frozenset({int, float, bool, str, bytes, complex, type(None), type, torch.dtype, torch.device,
                     torch.Size, FunctionType, BuiltinFunctionType})
_TENSOR = {torch.Tensor}
_DICTS = (dict, OrderedDict)
_CONTAINERS = (dict, OrderedDict, list, tuple)
_shape, _dtype = attrgetter('shape'), attrgetter('dtype')


class Snapshot:
    """Copies trees of tensors and plain values into buffers that it keeps.

    Tensors are copied by value, shared memory once: tied weights stay tied,
    and a small view of a big storage costs what it holds. The buffers are
    kept from call to call as long as shapes, types and ties stay the same.
    Values that may change and are no tensors are pickled at once. From CUDA
    the copy runs on a stream of its own into pinned memory; kernels that the
    training queues later wait for it, the training thread does not.

    Example:
        >>> weight = torch.zeros(3)
        >>> staged = Snapshot()({'w': weight, 'epoch': 1})
        >>> _ = weight.add_(1)
        >>> staged()
        {'w': tensor([0., 0., 0.]), 'epoch': 1}
    """

    def __init__(self) -> None:
        self._plan: _Plan | None = None

    def __call__(self, tree: Any) -> Staged:
        """Copy a tree.

        Args:
            tree (Any): Nested dicts, lists and tuples of tensors and picklable values.

        Returns:
            callable: Returns the copy once it is complete. It is valid until
                the next call, which uses the same buffers.

        Raises:
            SaveError: If a value cannot be pickled; the message has its path in the tree.
        """
        tensors: list[torch.Tensor] = []
        frozen = _freeze(tree, tensors, None)
        if self._plan is None or not self._plan.fits(tensors):
            # Freed before the new buffers are made: both together may not fit.
            self._plan = None
            self._plan = _Plan(tensors)
        wait = self._plan.copy(tensors)
        staged = self._plan.staged

        def complete() -> Any:
            wait()
            # Here, and not before, since this may be done by another thread while the training goes on.
            buffers = iter(staged)
            return map_tree(frozen, lambda tensor: next(buffers), _unpickled)

        return complete


class _Pickled:
    """A value as it was when it was pickled."""

    def __init__(self, value: Any, path: _Path) -> None:
        try:
            self._data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise SaveError(
                f'state{_written(path)} of the checkpoint cannot be pickled ({type(error).__name__}: {error}). Keep it '
                'out of the state, or put numbers, strings, lists, dicts and tensors in its place.') from error

    def value(self) -> Any:
        """Return the value."""
        return pickle.loads(self._data)


class _Plan:
    """Buffers for the tensors of a tree, and which tensor is copied into which."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.staged: list[torch.Tensor] = [torch.empty(0)] * len(tensors)
        self._shapes = list(map(_shape, tensors))
        self._dtypes = list(map(_dtype, tensors))
        # Positions of tensors that are copied by value, and pairs of those that must stay tied.
        self._copied: list[int] = []
        self._tied: list[tuple[int, int]] = []
        self._shared: list[_SharedBytes] = []
        self._special = [i for i, tensor in enumerate(tensors) if not _is_ordinary(tensor)]
        for i in self._special:
            self.staged[i] = _copy_special(tensors[i])
        special = set(self._special)
        places: dict[int, list[int]] = {}
        for i, tensor in enumerate(tensors):
            if i not in special:
                places.setdefault(id(tensor), []).append(i)
        for component in components(tensors[members[0]] for members in places.values()):
            self._add(tensors, component, [i for view in component.views for i in places[id(view)]])
        self._targets = [self.staged[i] for i in self._copied] + [part.buffer for part in self._shared]
        self._addresses = [] if special else list(map(torch.Tensor.data_ptr, tensors))

    def fits(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the buffers and the ties are right for other tensors."""
        if self._special or list(map(_dtype, tensors)) != self._dtypes:
            return False
        if list(map(_shape, tensors)) != self._shapes:
            return False
        try:
            addresses = list(map(torch.Tensor.data_ptr, tensors))
        except RuntimeError:
            # A sparse tensor, for instance, has no address.
            return False
        if addresses != self._addresses and not self._tied_alike(addresses):
            return False
        return all(part.fits(tensors) for part in self._shared)

    def _tied_alike(self, addresses: list[int]) -> bool:
        return (len(set(addresses)) == len(set(self._addresses))
                and all(addresses[i] == addresses[j] for i, j in self._tied))

    def copy(self, tensors: Sequence[torch.Tensor]) -> Callable[[], None]:
        """Copy the tensors; return a function that waits until that is done."""
        sources = [tensors[i] for i in self._copied] + [part.source(tensors) for part in self._shared]
        with torch.no_grad():
            if torch.cuda.is_initialized() and any(source.is_cuda for source in sources):
                return _copy_from_cuda(self._targets, sources)
            if sources:
                torch._foreach_copy_(self._targets, sources)
        return _nothing

    def _add(self, tensors: Sequence[torch.Tensor], component: Component, members: list[int]) -> None:
        first = component.views[0]
        if copies_by_value(component):
            buffer = torch.empty_like(first, device='cpu', pin_memory=first.is_cuda, requires_grad=False)
            self._copied.append(members[0])
            self._tied.extend((members[0], i) for i in members[1:])
            for i in members:
                self.staged[i] = buffer
        else:
            size = component.stop - component.start
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=first.is_cuda)
            self._shared.append(_SharedBytes(buffer, component.start, members, tensors))
            for i in members:
                self.staged[i] = view_like(buffer, tensors[i], component.start)


class _SharedBytes:
    """Bytes that several different views share: copied as bytes, so that they go on sharing them."""

    def __init__(self, buffer: torch.Tensor, start: int, members: list[int],
                 tensors: Sequence[torch.Tensor]) -> None:
        self.buffer = buffer
        self.start = start
        self.members = members
        self._layout = self._layout_of(tensors)

    def fits(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether other tensors share bytes in the same way."""
        storages = {tensors[i].untyped_storage()._cdata for i in self.members}
        return len(storages) == 1 and self._layout_of(tensors) == self._layout

    def source(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """The bytes as they are now."""
        return raw_bytes(tensors[self.members[0]], self.start, self.start + len(self.buffer))

    def _layout_of(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        return [(tensors[i].storage_offset(), tensors[i].stride()) for i in self.members]


def _is_ordinary(tensor: torch.Tensor) -> bool:
    return type(tensor) is torch.Tensor and has_plain_storage(tensor) and not tensor.requires_grad


def _copy_special(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.detach().to('cpu', copy=True)
    if type(tensor) is torch.nn.Parameter:
        return torch.nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy.requires_grad_(tensor.requires_grad)


def _copy_from_cuda(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> Callable[[], None]:
    by_device: dict[torch.device, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    for target, source in zip(targets, sources):
        pair = by_device.setdefault(source.device, ([], []))
        pair[0].append(target)
        pair[1].append(source)
    events = []
    for device, (there, here) in by_device.items():
        if device.type != 'cuda':
            torch._foreach_copy_(there, here)
            continue
        training, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        side.wait_stream(training)
        with torch.cuda.stream(side):
            torch._foreach_copy_(there, here, non_blocking=True)
        events.append(side.record_event())
        # What the training queues from now on, the optimizer's step above all, comes after the copy.
        training.wait_stream(side)

    def wait() -> None:
        for event in events:
            event.synchronize()

    return wait


def _unpickled(value: Any) -> Any:
    return value.value() if type(value) is _Pickled else value


def _nothing() -> None:
    """There is nothing to wait for."""


def _freeze(tree: Any, tensors: list[torch.Tensor], path: _Path) -> Any:
    """Return a tree with containers of its own, other values pickled, and add its tensors to a list, in order."""
    kind = type(tree)
    if kind in _DICTS:
        kinds = set(map(type, tree.values()))
        # Most containers hold tensors only, or numbers only: no loop in Python over thousands of them.
        if kinds == _TENSOR:
            tensors.extend(tree.values())
            copy = kind(tree)
        elif kinds <= _SHARED:
            copy = kind(tree)
        else:
            copy = kind([(key, _freeze(value, tensors, (path, key))) for key, value in tree.items()])
        if kind is OrderedDict and tree.__dict__:
            # Modules keep their versions in an attribute of the state dict.
            copy.__dict__.update(_freeze(tree.__dict__, [], (path, '__dict__')))
        return copy
    if kind in _CONTAINERS:
        return kind([_freeze(value, tensors, (path, i)) for i, value in enumerate(tree)])
    if isinstance(tree, torch.Tensor):
        tensors.append(tree)
        return tree
    return tree if kind in _SHARED else _Pickled(tree, path)


def _written(path: _Path) -> str:
    return '' if path is None else f'{_written(path[0])}[{path[1]!r}]'
