"""Short texts that are equal exactly if two values are, also in different processes."""

from __future__ import annotations

import itertools
import logging
import random
from collections import deque
from collections.abc import Iterator, Mapping, Set
from types import ModuleType
from typing import Any

import numpy as np
import torch
import xxhash
from torch.utils.data import DataLoader

# Entries of the message hub that measure this machine and this moment, not the training.
CLOCK_KEYS = ('/time', '/data_time', '/eta', '/memory')

_SHORT = 40
_DEPTH = 8
# What a reference to these leads to is the whole program, not the state of the object that holds it.
_FOREIGN = (torch.nn.Module, torch.optim.Optimizer, DataLoader, ModuleType, type, logging.Logger)
_FOREIGN_MODULES = ('mmengine.runner', 'mmengine.logging', 'mmengine.visualization', 'mmengine.hooks',
                    'mmckpt.store', 'threading', '_thread', 'multiprocessing', 'concurrent', 'logging', '_io')


def digest(value: Any) -> str:
    """Return a digest of everything that :func:`leaf_texts` finds in a value.

    Example:
        >>> digest({'a': torch.zeros(2), 'b': [1]}) == digest({'b': [1], 'a': torch.zeros(2)})
        True
        >>> digest(torch.zeros(2)) == digest(torch.zeros(2, 1))
        False
    """
    hasher = xxhash.xxh3_128()
    for path, text in leaf_texts(value).items():
        hasher.update(_encoded(f'{len(path)} {len(text)} {path}{text}'))
    return hasher.hexdigest()


def leaf_texts(value: Any, name: str = '') -> dict[str, str]:
    """Map the path of each leaf of a value to its type and its number, or to a digest of its bytes.

    Containers, objects and the random generators of Python, NumPy and
    PyTorch are looked into; functions, modules and whatever leads out of the
    value (a Runner, a logger, another module) are left out. No memory
    address gets into a text, so that texts of two processes can be compared.

    Args:
        value (Any): A tree, or an object with attributes.
        name (str): Path of the value itself. Defaults to ''.

    Returns:
        dict[str, str]: Sorted by path.

    Example:
        >>> leaf_texts({'lr': 0.1, 'steps': [1, 2]}, 'group')
        {'group.lr': 'float 0.1', 'group.steps[0]': 'int 1', 'group.steps[1]': 'int 2'}
    """
    return dict(sorted(_leaves(value, name, frozenset())))


def _leaves(value: Any, path: str, above: frozenset[int]) -> Iterator[tuple[str, str]]:
    text = _leaf_text(value)
    if text is not None:
        yield path, text
        return
    # A value that is shared is looked at each time, one that holds itself only once.
    if id(value) in above or len(above) > _DEPTH:
        return
    for child_path, child in _children(value, path):
        yield from _leaves(child, child_path, above | {id(value)})


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in value:
            yield _below(path, key), value[key]
    elif isinstance(value, Set):
        yield path, sorted(map(repr, value))
    elif isinstance(value, (list, tuple, deque)):
        for i, item in enumerate(value):
            yield f'{path}[{i}]', item
    elif not _is_foreign(value):
        for key, item in _attributes(value):
            yield _below(path, key), item


def _below(path: str, key: Any) -> str:
    return f'{path}.{key}' if path else str(key)


def _leaf_text(value: Any) -> str | None:
    """The text of a value that is not looked into any further, else None.

    Types that a checkpoint does not tell apart (a list and a tuple, a NumPy
    scalar and a number, a parameter and a tensor) are not told apart here.
    """
    if isinstance(value, np.generic):
        value = value.item()
    for kind in (bool, int, float, complex):
        if isinstance(value, kind):
            return f'{kind.__name__} {kind(value)!r}'
    if value is None or isinstance(value, (Mapping, Set, list, tuple, deque)) and not value:
        return 'None' if value is None else 'empty'
    if isinstance(value, (str, bytes, bytearray)):
        return f'text {value!r}' if len(value) <= _SHORT else f'text {_hashed(value)}'
    if isinstance(value, torch.Tensor):
        return f'tensor {value.dtype} {tuple(value.shape)} {_hashed(_tensor_bytes(value))}'
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()) if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
        return f'array {value.dtype} {value.shape} {_hashed(content)}'
    generator = _generator_state(value)
    return None if generator is None else f'generator {digest(generator)}'


def _generator_state(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return repr(value.getstate())
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, (np.random.BitGenerator, itertools.count)):
        return value.state if isinstance(value, np.random.BitGenerator) else repr(value)
    return None


def _tensor_bytes(tensor: torch.Tensor) -> Any:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # NumPy knows no bfloat16 and no float8.
    return memoryview(plain.reshape(-1).view(torch.uint8).numpy())


def _hashed(content: Any) -> str:
    return xxhash.xxh3_64_hexdigest(_encoded(content) if isinstance(content, str) else content)


def _encoded(text: str) -> bytes:
    return text.encode(errors='surrogatepass')


def _is_foreign(value: Any) -> bool:
    if isinstance(value, _FOREIGN) or callable(value) and not hasattr(value, '__dict__'):
        return True
    modules = (base.__module__ for base in type(value).__mro__)
    return any(module == m or module.startswith(f'{m}.') for module in modules for m in _FOREIGN_MODULES)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if type(value).__name__ in ('function', 'method', 'builtin_function_or_method', 'generator'):
        return
    yield from list(getattr(value, '__dict__', {}).items())
    for base in type(value).__mro__:
        slots = base.__dict__.get('__slots__', ())
        for key in (slots,) if isinstance(slots, str) else slots:
            if key not in ('__dict__', '__weakref__') and hasattr(value, key):
                yield key, getattr(value, key)
