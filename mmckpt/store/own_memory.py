"""Reads a checkpoint through a memory map into memory that has nothing to do with the file any more."""

from __future__ import annotations

import copy
import mmap
import os
from typing import Any

import torch

from mmckpt.store.loader import load_checkpoint
from mmckpt.store.tree import has_plain_storage, map_tree, tensors_of, view_like

# Where a tensor begins: no element type and no vector instruction needs more.
_ALIGNMENT = 64


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a whole checkpoint, faster than ``torch.load`` does.

    The file is mapped and its tensors are copied into large pages: what takes
    most of the time of a load is that the system hands out memory in small
    ones. After the call the file may be replaced, truncated or removed, which
    kills a process that goes on with mapped tensors.

    Args:
        path (str or Path): The file. A disk that fails under a memory map ends
            the process, so verify a file first that is not trusted.
        map_location (Any): As in ``torch.load``. Defaults to 'cpu'.

    Returns:
        dict: What was saved.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is truncated or altered.
        IncompatibleCheckpointError: If it is not a checkpoint, or holds
            objects that cannot be loaded safely.
    """
    # Part by part, so that the weights' memory is free once a model has copied them.
    return {key: in_own_memory(part) for key, part in load_checkpoint(path, map_location, mmap=True).items()}


def in_own_memory(tree: Any) -> Any:
    """Return a tree with copies of its CPU tensors; what shared memory goes on sharing it.

    Args:
        tree (Any): Nested dicts, lists and tuples of tensors and other values;
            the latter, and tensors of other devices, are passed on.

    Example:
        >>> weight = torch.zeros(3)
        >>> copied = in_own_memory({'w': weight, 'epoch': 1})
        >>> _ = weight.add_(1)
        >>> copied
        {'w': tensor([0., 0., 0.]), 'epoch': 1}
    """
    plain = {id(t): t for t in tensors_of(tree) if _is_ordinary(t)}
    storages = {t.untyped_storage()._cdata: t.untyped_storage() for t in plain.values()}
    copies = dict(zip(storages, _copied(list(storages.values()))))

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) in plain:
            return view_like(copies[tensor.untyped_storage()._cdata], tensor, 0)
        return copy.deepcopy(tensor) if tensor.device.type == 'cpu' else tensor

    return map_tree(tree, moved)


def _is_ordinary(tensor: torch.Tensor) -> bool:
    return (type(tensor) is torch.Tensor and tensor.device.type == 'cpu' and has_plain_storage(tensor)
            and not tensor.requires_grad)


def _copied(storages: list[torch.UntypedStorage]) -> list[torch.Tensor]:
    """Return the bytes of storages as flat ``uint8`` tensors, each a storage of its own in one block."""
    starts, total = [], 0
    for storage in storages:
        starts.append(total)
        total += -(-storage.nbytes() // _ALIGNMENT) * _ALIGNMENT
    block = _block(total) if total else None
    copies = []
    for storage, start in zip(storages, starts):
        if not storage.nbytes():
            copies.append(torch.empty(0, dtype=torch.uint8))
            continue
        # By one thread: torch would wait for all of its own after each tensor, which takes seconds in all
        # where other processes need the cores too, and saves little, since the memory is the limit.
        source = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
        block[start:start + len(source)] = memoryview(source)
        copies.append(torch.frombuffer(block, dtype=torch.uint8, offset=start, count=len(source)))
    return copies


def _block(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, 'MADV_HUGEPAGE'):
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            # A kernel without large pages: small ones do as well, only slower.
            pass
    return block
