"""Safetensors files: a JSON header and the bytes of the tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.nodes import WIDTHS, Place, Storage, TensorRef

DTYPES = {
    'F64': 'float64', 'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16', 'I64': 'int64', 'I32': 'int32',
    'I16': 'int16', 'I8': 'int8', 'U64': 'uint64', 'U32': 'uint32', 'U16': 'uint16', 'U8': 'uint8', 'BOOL': 'bool',
    'F8_E4M3': 'float8_e4m3fn', 'F8_E5M2': 'float8_e5m2', 'C64': 'complex64'}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LARGEST_HEADER = 16 << 20


def looks_like_safetensors(data: Any) -> bool:
    """Whether a file begins as a safetensors file does."""
    if len(data) < 10:
        return False
    size = struct.unpack('<Q', data[:8])[0]
    return size <= len(data) - 8 and data[8:9] == b'{'


def read_safetensors(data: Any, path: str) -> tuple[dict[str, TensorRef], dict[str, str]]:
    """Return the tensors of a file by name, and its metadata.

    Raises:
        CorruptCheckpointError: If its header cannot be right.
    """
    size = struct.unpack('<Q', data[:8])[0]
    if size > _LARGEST_HEADER:
        raise CorruptCheckpointError(f'its header takes {size} bytes, more than {_LARGEST_HEADER}')
    try:
        header = json.loads(bytes(data[8:8 + size]))
        metadata = header.pop('__metadata__', {})
        tensors = {name: _ref(name, entry, path, 8 + size, len(data)) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCheckpointError(f'its header is broken: {str(error)[:200]}') from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def write_safetensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], file: Any) -> None:
    """Write tensors; those that share memory are written one by one.

    Args:
        tensors (Mapping[str, Tensor]): CPU tensors by name.
        metadata (Mapping[str, str]): Texts for the header.
        file (file object): Needs ``write`` only.

    Raises:
        ValueError: If the format has no name for a dtype.
    """
    header: dict[str, Any] = {'__metadata__': dict(metadata)} if metadata else {}
    at = 0
    # The format's own library puts wide types first, so that all of them are aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        tensor = tensors[name]
        dtype = str(tensor.dtype)[6:]
        if dtype not in _NAMES or tensor.layout != torch.strided:
            raise ValueError(f'expected a dense tensor of a type that safetensors has, found {name}: {tensor.dtype}, '
                             f'{tensor.layout}')
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {'dtype': _NAMES[dtype], 'shape': list(tensor.shape), 'data_offsets': [at, end]}
        at = end
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    file.write(struct.pack('<Q', len(text)) + text)
    for name in names:
        flat = tensors[name].detach().contiguous().reshape(-1)
        if flat.numel():
            file.write(memoryview(flat.view(torch.uint8).numpy()))


def _ref(name: str, entry: dict[str, Any], path: str, base: int, size: int) -> TensorRef:
    start, end = entry['data_offsets']
    shape, dtype = tuple(map(int, entry['shape'])), DTYPES.get(entry['dtype'], str(entry['dtype'])[:20])
    if len(shape) > 64 or not 0 <= start <= end or min(shape, default=0) < 0:
        raise ValueError(f'{name[:80]!r} has the shape {shape[:8]} at bytes {start} to {end}')
    stride = [1]
    for length in reversed(shape[1:]):
        stride.append(stride[-1] * length)
    place = Place(path, base + start, end - start) if base + end <= size else None
    width = WIDTHS.get(dtype, 1)
    storage = Storage(name, dtype, (end - start) // width, 'cpu', place)
    return TensorRef(dtype, shape, tuple(reversed(stride)) if shape else (), 0, storage)
