"""Values in plain types: for files that load safely, and for JSON without loss."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

# Its class is named, not imported: state/ does not depend on MMEngine.
_HISTORY_BUFFER = 'mmengine.logging.history_buffer.HistoryBuffer'


def to_plain(value: Any) -> Any:
    """Return a value in types that ``torch.load(weights_only=True)`` reads.

    Mappings become dicts, named tuples tuples, other sequences and sets lists
    (sets are sorted), NumPy scalars and subclasses of Python's numbers plain
    numbers, paths and dates strings, enum members their value. Tensors,
    numeric NumPy arrays and MMEngine's ``HistoryBuffer`` stay what they are
    (not copied). Anything else becomes a text that describes it: a checkpoint
    must be readable before it is complete.

    Args:
        value (Any): A tree, such as a data set's ``metainfo`` or the message
            hub's ``runtime_info``; without cycles.

    Returns:
        Any: The same tree in plain types; the input is not changed.

    Example:
        >>> to_plain({'root': PurePath('data/coco'), 'classes': {'cat'}, 'scale': np.float32(0.5)})
        {'root': 'data/coco', 'classes': ['cat'], 'scale': 0.5}
    """
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor)
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, Mapping):
        return {_plain_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(item) for item in value)
    if isinstance(value, Set):
        return sorted((to_plain(item) for item in value), key=lambda item: (type(item).__name__, repr(item)))
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return [to_plain(item) for item in value]
    return _plain_leaf(value)


def to_json(value: Any) -> Any:
    """Return a value as a tree that ``json.dumps`` takes and :func:`from_json` undoes to the bit.

    Tuples, bytes, NaN and infinities, NumPy scalars and arrays, tensors and
    dicts with other keys than strings are kept as one-entry dicts whose key
    starts with ``$``; arrays and tensors as base64 of their bytes. A tensor
    comes back on the CPU.

    Args:
        value (Any): Nested dicts, lists and tuples of None, numbers, strings,
            bytes, NumPy scalars, numeric or text arrays, dense tensors.

    Returns:
        Any: Dicts with string keys, lists, strings, finite numbers and None.

    Raises:
        ValueError: For any other type; :func:`to_plain` makes a plain value.

    Example:
        >>> to_json({'best': (float('inf'), 0.5), 3: None})
        {'$dict': [['best', {'$tuple': [{'$float': '7ff0000000000000'}, 0.5]}], [3, None]]}
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {'$float': struct.pack('>d', value).hex()}
    if kind is list:
        return [to_json(item) for item in value]
    if kind is tuple:
        return {'$tuple': [to_json(item) for item in value]}
    if kind is dict:
        return _dict_to_json(value)
    if kind is bytes:
        return {'$bytes': _base64(value)}
    if kind is torch.Tensor:
        return {'$tensor': _tensor_to_json(value)}
    if kind is np.ndarray or isinstance(value, np.generic):
        return {'$array' if kind is np.ndarray else '$scalar': _array_to_json(np.asarray(value))}
    raise ValueError('Expected plain types (dict, list, tuple, None, numbers, str, bytes, tensors, arrays), '
                     f'but got {kind.__module__}.{kind.__qualname__}; pass it through to_plain first.')


def from_json(value: Any) -> Any:
    """Return the value that :func:`to_json` was given.

    Args:
        value (Any): What :func:`to_json` returned, also after a round through
            JSON text.

    Raises:
        ValueError: If it holds a ``$`` entry of an unknown kind.

    Example:
        >>> from_json({'$tuple': [1, {'$float': '7ff0000000000000'}]})
        (1, inf)
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith('$') for key in value):
        return {key: from_json(item) for key, item in value.items()}
    (tag, content), = value.items()
    if tag not in _DECODERS:
        raise ValueError(f'Expected one of {sorted(_DECODERS)}, but got {tag!r}: it was written by a newer '
                         'version of mmckpt.')
    return _DECODERS[tag](content)


def _plain_leaf(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes) or _full_name(kind) == _HISTORY_BUFFER:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (PurePath, torch.dtype, torch.device, np.generic)):
        return str(value)
    if hasattr(value, '__qualname__'):
        return _full_name(value)
    # The default repr holds an address, which would differ from run to run.
    return f'<{_full_name(kind)}>' if kind.__repr__ is object.__repr__ else repr(value)


def _plain_key(key: Any) -> Any:
    plain = to_plain(key)
    try:
        hash(plain)
    except TypeError:
        return repr(plain)
    return plain


def _plain_array(value: np.ndarray) -> Any:
    if value.dtype.kind in 'biufc' and not isinstance(value, np.ma.MaskedArray):
        return np.asarray(value)
    return to_plain(value.tolist())


def _full_name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', None) or 'builtins'}.{thing.__qualname__}"


def _dict_to_json(value: dict) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith('$') for key in value):
        return {key: to_json(item) for key, item in value.items()}
    return {'$dict': [[to_json(key), to_json(item)] for key, item in value.items()]}


def _array_to_json(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in 'biufcSUMm':
        raise ValueError(f'Expected a numeric or text array, but got dtype {array.dtype}; pass it through '
                         'to_plain first.')
    return {'dtype': array.dtype.str, 'shape': list(array.shape), 'data': _base64(array.tobytes())}


def _array_from_json(content: dict[str, Any]) -> np.ndarray:
    # A bytearray, so that the caller may go on counting in the array.
    return np.ndarray(content['shape'], content['dtype'], bytearray(base64.b64decode(content['data'])))


def _tensor_to_json(tensor: torch.Tensor) -> dict[str, Any]:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f'Expected a dense tensor, but got layout {tensor.layout}, dtype {tensor.dtype}.')
    # NumPy has no bfloat16: the bytes travel. resolve_*: a lazy conjugate's bytes are not its values.
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return {'dtype': str(tensor.dtype).split('.')[1], 'shape': list(tensor.shape),
            'data': _base64(flat.view(torch.uint8).numpy().tobytes())}


def _tensor_from_json(content: dict[str, Any]) -> torch.Tensor:
    dtype, data = getattr(torch, content['dtype']), bytearray(base64.b64decode(content['data']))
    if not data:
        return torch.empty(content['shape'], dtype=dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(content['shape'])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


_DECODERS = {
    '$tuple': lambda content: tuple(from_json(item) for item in content),
    '$dict': lambda content: {from_json(key): from_json(item) for key, item in content},
    '$float': lambda content: struct.unpack('>d', bytes.fromhex(content))[0],
    '$bytes': base64.b64decode,
    '$tensor': _tensor_from_json,
    '$array': _array_from_json,
    '$scalar': lambda content: _array_from_json(content)[()],
}
