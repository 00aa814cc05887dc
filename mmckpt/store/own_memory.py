"""Reads a checkpoint through a memory map, and leaves none of it tied to the file that must not be."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from mmckpt.store.loader import load_checkpoint
from mmckpt.store.mode import usable_cores
from mmckpt.store.tree import has_plain_storage, map_tree, tensors_of, view_like

# More would not make the memory faster, and the ranks of a machine load at the same time.
_MOST_THREADS = 4


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
    copied = in_own_memory({key: part for key, part in checkpoint.items() if key not in mapped})
    return {key: copied.get(key, part) for key, part in checkpoint.items()}


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
    plain = {id(t): t.untyped_storage() for t in tensors_of(tree) if _is_plain(t)}
    storages = {storage._cdata: storage for storage in plain.values()}
    copies = dict(zip(storages, _copied(list(storages.values()))))

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) in plain:
            return view_like(copies[plain[id(tensor)]._cdata], tensor, 0)
        return copy.deepcopy(tensor) if tensor.device.type == 'cpu' else tensor

    return map_tree(tree, moved)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (type(tensor) is torch.Tensor and tensor.device.type == 'cpu' and has_plain_storage(tensor)
            and not tensor.requires_grad)


def _copied(storages: list[torch.UntypedStorage]) -> list[torch.Tensor]:
    """Copy the bytes of storages, by threads that do not wait for each other.

    Most of the time goes into getting new memory from the system. torch's own
    copy waits for all of its threads after each tensor, which turns
    milliseconds into seconds where other processes need the cores too.
    """
    copies: list[torch.Tensor] = [torch.empty(0)] * len(storages)
    workers = min(_MOST_THREADS, usable_cores())

    def copy_every_nth(first: int) -> None:
        for i in range(first, len(storages), workers):
            source = torch.empty(0, dtype=torch.uint8).set_(storages[i])
            copies[i] = torch.empty_like(source)
            # NumPy lets other threads run in the meantime.
            copies[i].numpy()[:] = source.numpy()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(copy_every_nth, range(workers)))
    return copies
