"""Reads a checkpoint through a memory map, and leaves none of it tied to the file that must not be."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection
from typing import Any

import torch

from mmckpt.store.loader import load_checkpoint
from mmckpt.store.tree import has_plain_storage, map_tree, view_like


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu',
                    mapped: Collection[str] = ()) -> dict[str, Any]:
    """Load a checkpoint with less memory and in less time than ``torch.load`` needs.

    What is copied elsewhere anyway, such as weights that a model takes over,
    need not be copied out of the file before. All else gets memory of its
    own: a process that goes on with mapped tensors dies when somebody
    truncates the file, and keeps its bytes on the disk when it is removed.

    Args:
        path (str or Path): The file. A disk that fails under a memory map ends
            the process, so verify a file first that is not trusted.
        map_location (Any): As in ``torch.load``. Defaults to 'cpu'.
        mapped (Collection[str]): Keys whose CPU tensors stay mapped; copy them
            and let go of them. Defaults to none.

    Returns:
        dict: What was saved.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is truncated or altered.
        IncompatibleCheckpointError: If it is not a checkpoint, or holds
            objects that cannot be loaded safely.
    """
    checkpoint = load_checkpoint(path, map_location, mmap=True)
    return {key: part if key in mapped else in_own_memory(part) for key, part in checkpoint.items()}


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
    copies: dict[int, torch.Tensor] = {}

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != 'cpu':
            return tensor
        if type(tensor) is not torch.Tensor or not has_plain_storage(tensor) or tensor.requires_grad:
            return copy.deepcopy(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in copies:
            copies[storage._cdata] = _copy_of(storage)
        return view_like(copies[storage._cdata], tensor, 0)

    return map_tree(tree, moved)


def _copy_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """Copy the bytes of a storage, by one thread.

    torch's own copy waits for all of its threads after each tensor. Where
    other processes need the cores too, that makes seconds of milliseconds.
    """
    source = torch.empty(0, dtype=torch.uint8).set_(storage)
    target = torch.empty_like(source)
    target.numpy()[:] = source.numpy()
    return target
