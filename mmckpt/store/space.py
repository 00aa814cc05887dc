"""What checkpoints take of the disk, and whether a run of them fits on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmckpt.store.directories import files_below, is_directory
from mmckpt.store.tree import has_plain_storage, tensors_of

# Pickled structure, log history and zip headers, roughly.
_OVERHEAD = 1 << 16


def estimate_bytes(state: Any) -> int:
    """Return about how many bytes the file of a state will have.

    Args:
        state (Any): A tree of tensors and plain values.

    Example:
        >>> import torch
        >>> estimate_bytes({'w': torch.zeros(1000)}) - estimate_bytes({})
        4000
    """
    total = _OVERHEAD
    by_storage: dict[int, tuple[int, int]] = {}
    for tensor in tensors_of(state):
        size = tensor.numel() * tensor.element_size()
        if has_plain_storage(tensor):
            storage = tensor.untyped_storage()
            before = by_storage.get(storage._cdata, (0, 0))[1]
            by_storage[storage._cdata] = (storage.nbytes(), before + size)
        else:
            total += size
    return total + sum(min(whole, used) for whole, used in by_storage.values())


def save_warning(name: str, needed: int, free: int) -> str:
    """Return what to tell the user before a save that will probably not fit."""
    return (f'{name} needs about {megabytes(needed)}, but only {megabytes(free)} are free. The save is tried '
            'all the same. Free some space, lower max_keep_ckpts, or set save_optimizer=False.')


def run_warning(size: int, files: int, there: int, free: int) -> str | None:
    """Return a warning if a run will not fit on its disk, or None.

    One file more than is kept must fit, because the new one is written before
    an old one goes.

    Args:
        size (int): Bytes of one checkpoint.
        files (int): Checkpoints that will be kept at most.
        there (int): Bytes of this run's checkpoints that are there already.
        free (int): Bytes that are free.

    Example:
        >>> run_warning(size=100, files=3, there=0, free=400) is None
        True
    """
    needed = size * (files + 1) - there
    if needed <= free:
        return None
    fits = max(0, (free + there) // size - 1)
    return (f'This run will fill the disk: {files} checkpoints of {megabytes(size)} are kept and one more is '
            f'written before an old one goes. That needs {megabytes(needed)} more, but only '
            f'{megabytes(free)} are free. Keep at most {fits} (max_keep_ckpts, save_best), set '
            'save_optimizer=False, or free some space.')


def bytes_on_disk(paths: list[Path]) -> int:
    """Return what the disk gains when all of these names go; a file with another name stays."""
    return sum(sizes_on_disk(paths))


def sizes_on_disk(paths: list[Path]) -> list[int]:
    """Return the bytes of each file (or directory) of which no name is left when all of these names go."""
    # Bytes, names left and the first path of each file, by inode.
    sizes: dict[int, int] = {}
    names_left: dict[int, int] = {}
    owners: dict[int, Path] = {}
    for path in paths:
        for file in files_below(path) if is_directory(path) else [path]:
            try:
                status = file.stat()
            except OSError:
                continue
            sizes[status.st_ino] = status.st_size
            names_left[status.st_ino] = names_left.get(status.st_ino, status.st_nlink) - 1
            owners.setdefault(status.st_ino, path)
    freed: dict[Path, int] = {}
    for inode, size in sizes.items():
        if names_left[inode] == 0:
            freed[owners[inode]] = freed.get(owners[inode], 0) + size
    return list(freed.values())


def megabytes(count: float) -> str:
    """Return a number of bytes for people.

    Example:
        >>> megabytes(12_345_678), megabytes(2.5e9), megabytes(1300)
        ('12.3 MB', '2.5 GB', '1.3 kB')
    """
    for unit, size in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= size:
            return f'{count / size:.1f} {unit}'
    return f'{count:.0f} bytes'
