"""A tree of tensors and plain values as a file that ``torch.load`` reads."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import torch

from mmckpt.errors import SaveError
from mmckpt.store.tree import compact


def write_state(state: Any, file: Any) -> None:
    """Write a tree with ``torch.save``, without the unused parts of big storages.

    Tensors go to the file as CPU tensors, as MMEngine writes them. The zip
    checksums are computed whatever this costs (80 ms of 500 MB, off the
    training thread): torch's switch for them is global to the process, and
    zip tools call a file without them broken.

    Args:
        state (Any): Nested dicts, lists and tuples of tensors and picklable values.
        file (file object): Needs ``write`` and ``flush`` only.

    Raises:
        SaveError: If a value cannot be pickled; the message has its path in the tree.
    """
    try:
        torch.save(compact(state), file)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        path = next(unpicklable(state), None)
        if path is None:
            raise
        raise SaveError(
            f'{path} of the checkpoint cannot be pickled ({type(error).__name__}: {error}). Keep it out of '
            'the state, or put numbers, strings, lists, dicts and tensors in its place.') from error


def unpicklable(tree: Any, path: str = 'state') -> Iterator[str]:
    """Yield the paths of the values that ``pickle`` refuses.

    Example:
        >>> list(unpicklable({'hooks': [1, lambda: 0]}))
        ["state['hooks'][1]"]
    """
    if isinstance(tree, torch.Tensor):
        return
    if isinstance(tree, dict) and not _can_pickle_itself(tree):
        for key, value in tree.items():
            yield from unpicklable(value, f'{path}[{key!r}]')
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from unpicklable(value, f'{path}[{i}]')
    elif not _can_pickle_itself(tree):
        yield path


def _can_pickle_itself(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
