"""Tensors that are made of other tensors: sparse and quantized ones."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Callable

import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.nodes import TensorRef

_COMPRESSED = ('sparse_csr', 'sparse_csc', 'sparse_bsr', 'sparse_bsc')
# The plain dtype in which the values of a quantized tensor lie.
PLAIN = {'quint8': 'uint8', 'qint8': 'int8', 'qint32': 'int32'}
_PER_CHANNEL = ('per_channel_affine', 'per_channel_affine_float_qparams')
# Dtypes of what torch keeps for each channel.
_SERIES = ('float64', 'float32', 'int64', 'int32')


@dataclass(frozen=True, eq=False)
class SparseRef(TensorRef):
    """A tensor of which only some elements are stored.

    Args:
        layout (str): ``'sparse_coo'``, ``'sparse_csr'`` and the like. Defaults to the first.
        indices (tuple[TensorRef, ...]): One for COO, else the compressed and the plain ones.
        values (TensorRef or None): The stored elements.
        coalesced (bool or None): What the file says about it.
    """

    layout: str = 'sparse_coo'
    indices: tuple[TensorRef, ...] = ()
    values: TensorRef | None = None
    coalesced: bool | None = None

    @property
    def stored(self) -> tuple[TensorRef, ...]:
        """The plain tensors that it is made of, the values last."""
        return (*self.indices, self.values) if self.values is not None else ()

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return sum(part.nbytes for part in self.stored)

    @property
    def fault(self) -> str | None:
        """Why its values cannot be read, or None if they can; whether the indices fit is seen when they are read."""
        wanted = {'sparse_coo': 2, **dict.fromkeys(_COMPRESSED, 3)}.get(self.layout)
        if len(self.stored) != wanted:
            return f'its layout {self.layout[:40]!r} is unknown'
        for part in self.stored:
            if part.fault or _is_repeated(part):
                return part.fault or 'its parts claim more elements than the file holds'
        if any(part.dtype not in ('int64', 'int32') for part in self.indices) or min(self.shape, default=0) < 0:
            return 'its indices are no whole numbers, or its shape is negative'
        if math.prod(self.shape) >= 1 << 63:
            return f'its shape {self.shape} has more elements than can be counted'
        return None


@dataclass(frozen=True, eq=False)
class QuantizedRef(TensorRef):
    """A tensor of small whole numbers that stand for others.

    Args:
        scheme (str): ``'per_tensor_affine'``, or per channel.
        scale (Any): A number, or a tensor or list of them, by channel.
        zero_point (Any): The same.
        axis (int): The dimension of the channels. Defaults to 0.
    """

    scheme: str = ''
    scale: Any = None
    zero_point: Any = None
    axis: int = 0

    @property
    def plain(self) -> TensorRef:
        """The whole numbers."""
        return TensorRef(PLAIN.get(self.dtype, self.dtype), self.shape, self.stride, self.offset, self.storage)

    @property
    def fault(self) -> str | None:
        """Why its values cannot be read, or None if they can."""
        if self.dtype not in PLAIN:
            return f'its dtype {self.dtype} is unknown'
        if self.plain.fault or _is_repeated(self.plain):
            return self.plain.fault or 'it claims more elements than the file holds'
        parts = self.scale, self.zero_point
        if self.scheme == 'per_tensor_affine':
            known = type(parts[0]) in (int, float) and type(parts[1]) is int
            return None if known else 'its scale or zero point is no number'
        if self.scheme not in _PER_CHANNEL or not 0 <= self.axis < len(self.shape):
            return f'its scheme {self.scheme[:40]!r} or its axis {self.axis} is unknown'
        fitting = all(_is_series(part, self.shape[self.axis]) for part in parts)
        return None if fitting else 'its scales or zero points are not one a channel'


def sparse_ref(layout: Any, data: Any) -> SparseRef:
    """Return the description of a sparse tensor from what torch keeps of it.

    Raises:
        ValueError: If it is none.
    """
    count = 2 if layout == 'sparse_coo' else 3
    *indices, values, size = data[:count + 1]
    if any(type(part) is not TensorRef for part in (*indices, values)):
        # Sparse tensors of sparse tensors would double with every level.
        raise ValueError('no plain tensors')
    coalesced = data[3] if layout == 'sparse_coo' and len(data) > 3 and isinstance(data[3], bool) else None
    return SparseRef(values.dtype, size, (0,) * len(size), 0, values.storage, 'sparse tensor', layout, tuple(indices),
                     values, coalesced)


def ranges(ref: SparseRef) -> list[tuple[TensorRef, int]]:
    """Return the indices of a sparse tensor without a fault, each with the number that all of them are below."""
    if ref.layout != 'sparse_coo':
        compressed, plain = ref.indices
        return [(compressed, ref.stored[-1].numel + 1), (plain, max(ref.shape, default=0))]
    rows = ref.indices[0]
    if len(rows.shape) != 2 or rows.shape[0] > len(ref.shape):
        return []
    return [(replace(rows, shape=rows.shape[1:], stride=rows.stride[1:], offset=rows.offset + i * rows.stride[0]), size)
            for i, size in enumerate(ref.shape[:rows.shape[0]])]


def assemble(ref: SparseRef | QuantizedRef, read: Callable[[TensorRef], torch.Tensor]) -> torch.Tensor:
    """Return a sparse or quantized tensor.

    Args:
        ref (SparseRef or QuantizedRef): Its description, without a fault.
        read (callable): Reads a plain tensor.

    Raises:
        CorruptCheckpointError: If its indices do not fit its shape.
    """
    with warnings.catch_warnings():
        # torch calls some layouts a beta, and quantized tensors old; the file has them all the same.
        warnings.simplefilter('ignore')
        try:
            return _quantized(ref, read) if isinstance(ref, QuantizedRef) else _sparse(ref, read)
        except (RuntimeError, ValueError, TypeError) as error:
            # Below the first line torch says where in its own code that was.
            reason = str(error).split('\n')[0]
            raise CorruptCheckpointError(f'a {ref.kind} of shape {ref.shape} is broken: {reason}'[:300]) from error


def channels(ref: QuantizedRef, read: Callable[[TensorRef], torch.Tensor]) -> list[tuple[TensorRef, float, float]]:
    """Return whole numbers, scale and zero point of each channel, or of the whole tensor if it has one scale."""
    if ref.scheme == 'per_tensor_affine':
        return [(ref.plain, float(ref.scale), float(ref.zero_point))]
    shape, stride = (v[:ref.axis] + v[ref.axis + 1:] for v in (ref.shape, ref.stride))
    plain = ref.plain
    return [(replace(plain, shape=shape, stride=stride, offset=ref.offset + i * ref.stride[ref.axis]), *pair)
            for i, pair in enumerate(zip(*(_series(part, read).tolist() for part in (ref.scale, ref.zero_point))))]


def _sparse(ref: SparseRef, read: Callable[[TensorRef], torch.Tensor]) -> torch.Tensor:
    *indices, values = map(read, ref.stored)
    if ref.layout == 'sparse_coo':
        return torch.sparse_coo_tensor(*indices, values, ref.shape, check_invariants=True, is_coalesced=ref.coalesced)
    return torch.sparse_compressed_tensor(*indices, values, ref.shape, layout=getattr(torch, ref.layout),
                                          check_invariants=True)


def _quantized(ref: QuantizedRef, read: Callable[[TensorRef], torch.Tensor]) -> torch.Tensor:
    if ref.scheme == 'per_tensor_affine':
        return torch._make_per_tensor_quantized_tensor(read(ref.plain), ref.scale, ref.zero_point)
    scales, zero_points = (_series(part, read) for part in (ref.scale, ref.zero_point))
    return torch._make_per_channel_quantized_tensor(read(ref.plain), scales, zero_points, ref.axis)


def _series(part: Any, read: Callable[[TensorRef], torch.Tensor]) -> torch.Tensor:
    return read(part) if isinstance(part, TensorRef) else torch.tensor(part)


def _is_series(part: Any, count: int) -> bool:
    if isinstance(part, list):
        return len(part) == count and all(type(number) in (int, float) for number in part)
    return (type(part) is TensorRef and part.dtype in _SERIES and part.shape == (count,) and part.fault is None
            and not _is_repeated(part))


def _is_repeated(part: TensorRef) -> bool:
    """Whether strides of 0 make more elements out of a file than it has; what copies them would need the memory."""
    place = None if part.storage is None else part.storage.place
    return place is not None and part.nbytes > place.nbytes
