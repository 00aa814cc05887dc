"""Trees of tensors: which bytes of which storages they really use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import torch

_CONTAINERS = (dict, OrderedDict, list, tuple)


def map_tree(tree: Any, on_tensor: Callable[[torch.Tensor], Any],
             on_other: Callable[[Any], Any] = lambda value: value) -> Any:
    """Rebuild a tree of dicts, lists and tuples with its leaves replaced.

    Example:
        >>> map_tree({'a': [1, torch.zeros(2)]}, lambda t: tuple(t.shape))
        {'a': [1, (2,)]}
    """
    kind = type(tree)
    if kind is dict:
        return {key: map_tree(value, on_tensor, on_other) for key, value in tree.items()}
    if kind is list:
        return [map_tree(value, on_tensor, on_other) for value in tree]
    if kind is tuple:
        return tuple([map_tree(value, on_tensor, on_other) for value in tree])
    if kind is OrderedDict:
        copy: OrderedDict = OrderedDict((k, map_tree(v, on_tensor, on_other)) for k, v in tree.items())
        # Modules keep their versions in an attribute of the state dict.
        copy.__dict__.update(tree.__dict__)
        return copy
    return on_tensor(tree) if isinstance(tree, torch.Tensor) else on_other(tree)


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of a tree, in order, repeated where they are."""
    found: list[torch.Tensor] = []
    pending = [tree]
    while pending:
        value = pending.pop()
        kind = type(value)
        if kind in (dict, OrderedDict):
            pending.extend(value.values())
        elif kind in (list, tuple):
            pending.extend(value)
        elif isinstance(value, torch.Tensor):
            found.append(value)
    return found


@dataclass
class Component:
    """A run of bytes of one storage that tensors of a tree use, with no gap between them.

    Args:
        start (int): First byte in the storage.
        stop (int): Byte behind the last.
        views (list[Tensor]): The tensors.
    """

    start: int
    stop: int
    views: list[torch.Tensor]


def has_plain_storage(tensor: torch.Tensor) -> bool:
    """Whether the values of a tensor are the bytes of one storage, and nothing else."""
    return (type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
            and tensor.device.type != 'meta' and not tensor.is_quantized
            and not tensor.is_conj() and not tensor.is_neg())


def byte_range(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of its storage that a tensor uses, and the byte behind the last.

    Example:
        >>> byte_range(torch.zeros(10, dtype=torch.float32)[2:4])
        (8, 16)
    """
    width = tensor.element_size()
    start = tensor.storage_offset() * width
    if tensor.numel() == 0:
        return start, start
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return start, start + (last + 1) * width


def components(tensors: Iterable[torch.Tensor]) -> list[Component]:
    """Group tensors by the bytes that they share.

    Views that overlap or touch in one storage are one component, so that tied
    weights and the views of a flat buffer stay tied; a small view of a big
    storage is a small component.
    """
    by_storage: dict[int, list[tuple[int, int, torch.Tensor]]] = {}
    for tensor in tensors:
        by_storage.setdefault(tensor.untyped_storage()._cdata, []).append((*byte_range(tensor), tensor))
    found: list[Component] = []
    for spans in by_storage.values():
        if len(spans) == 1:
            start, stop, tensor = spans[0]
            found.append(Component(start, stop, [tensor]))
        else:
            found.extend(_merge(spans))
    return found


def _merge(spans: list[tuple[int, int, torch.Tensor]]) -> list[Component]:
    merged: list[Component] = []
    for start, stop, tensor in sorted(spans, key=lambda span: span[:2]):
        if merged and start <= merged[-1].stop:
            merged[-1].views.append(tensor)
            merged[-1].stop = max(merged[-1].stop, stop)
        else:
            merged.append(Component(start, stop, [tensor]))
    return merged


def copies_by_value(component: Component) -> bool:
    """Whether a component is one view, perhaps of tied tensors, none of whose elements share memory.

    Copying its values, not its bytes, leaves out what a strided view (a
    column, for instance) skips.
    """
    first = component.views[0]
    key = (first.storage_offset(), first.shape, first.stride(), first.dtype)
    same = all((v.storage_offset(), v.shape, v.stride(), v.dtype) == key for v in component.views[1:])
    return same and _size(first) <= component.stop - component.start


def compact(tree: Any) -> Any:
    """Return the tree with CPU tensors that own no more bytes than they use.

    Tensors that fill their storage are passed on as they are, so this costs
    memory only for the others. What shares memory goes on sharing it.

    Example:
        >>> small = compact([torch.zeros(1000)[:10]])[0]
        >>> small.untyped_storage().nbytes()
        40
    """
    tensors = tensors_of(tree)
    plain = [t for t in tensors if has_plain_storage(t)]
    filled = {t.untyped_storage()._cdata for t in plain
              if _size(t) == t.untyped_storage().nbytes() and t.device.type == 'cpu'}
    moved: dict[int, torch.Tensor] = {}
    for component in components(t for t in plain if t.untyped_storage()._cdata not in filled):
        for view, copy in zip(component.views, _copy_component(component)):
            moved[id(view)] = copy
    if not moved and all(t.device.type == 'cpu' for t in tensors):
        return tree
    return map_tree(tree, lambda t: moved[id(t)] if id(t) in moved else t.cpu())


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _copy_component(component: Component) -> Sequence[torch.Tensor]:
    first = component.views[0].detach()
    if copies_by_value(component):
        copy = torch.empty_like(first, device='cpu').copy_(first)
        return [copy] * len(component.views)
    flat = raw_bytes(first, component.start, component.stop).to('cpu', copy=True)
    return [view_like(flat, tensor, component.start) for tensor in component.views]


def raw_bytes(tensor: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return some bytes of a tensor's storage as a flat ``uint8`` tensor that shares its memory."""
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return flat.set_(tensor.untyped_storage(), start, (stop - start,), (1,))


def view_like(flat: torch.Tensor, tensor: torch.Tensor, start: int) -> torch.Tensor:
    """Return a view of ``flat`` that is to it what ``tensor`` is to its storage from byte ``start`` on."""
    offset = tensor.storage_offset() * tensor.element_size() - start + flat.storage_offset()
    empty = torch.empty(0, dtype=tensor.dtype)
    return empty.set_(flat.untyped_storage(), offset // tensor.element_size(), tensor.shape, tensor.stride())
