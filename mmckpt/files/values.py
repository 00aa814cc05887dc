"""The values of tensors in a file, read when they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.nodes import WIDTHS, ArrayRef, Named, Opaque, Place, ShardedRef, TensorRef, tensors_in
from mmckpt.files.special import QuantizedRef, SparseRef, assemble, channels, ranges

if TYPE_CHECKING:
    from mmckpt.files.content import Content

_CHUNK = 16 << 20
_NUMERIC = 'biufc'
# Each is read by itself.
_MOST_CHANNELS = 10_000
# Tensors that reach over no more bytes than this are read at a stroke.
_NEAR = 1 << 16
# How often all bytes of a file are read where each of its tensors is; less than so many bytes are no matter.
_MOST_TIMES, _FEW = 8, 1 << 30


@dataclass(frozen=True)
class Statistics:
    """What the values of a tensor are like.

    Args:
        nan (int): How many are NaN.
        inf (int): How many are infinite.
        zero (bool): Whether all are 0.
        low (float or None): Least finite value.
        high (float or None): Greatest finite value.
        mean (float or None): Mean of the finite values.
    """

    nan: int
    inf: int
    zero: bool
    low: float | None
    high: float | None
    mean: float | None


class ValueReader:
    """Reads tensors out of files; what shares memory in the file shares it afterwards."""

    def __init__(self) -> None:
        self._storages: dict[Place, torch.Tensor] = {}

    def tree(self, value: Any, lost: dict[str, str] | None = None, path: str = '') -> Any:
        """Return a tree with real tensors in place of their descriptions.

        Args:
            value (Any): A tree of :func:`mmckpt.files.open_file`.
            lost (dict, optional): Gets path and reason of what has no plain form;
                it becomes None. Defaults to None, nobody wants to know.
            path (str): Where the tree lies. Defaults to ''.
        """
        lost = {} if lost is None else lost
        if isinstance(value, TensorRef):
            return self._tensor_or_none(value, lost, path)
        if isinstance(value, ArrayRef):
            return self.array(value, lost, path)
        if isinstance(value, dict):
            return {k: self.tree(v, lost, f'{path}.{k}' if path else str(k)) for k, v in value.items()
                    if not isinstance(k, Opaque)}
        if isinstance(value, (list, tuple)):
            return type(value)(self.tree(v, lost, f'{path}[{i}]') for i, v in enumerate(value))
        if isinstance(value, Named):
            return self._named(value)
        if isinstance(value, Opaque):
            return self._object(value, lost, path)
        return bytes(value) if isinstance(value, memoryview) else value

    def tensor(self, ref: TensorRef) -> torch.Tensor:
        """Return one tensor, in memory of its own.

        Raises:
            CorruptCheckpointError: If its bytes are not all there.
        """
        if ref.fault is not None:
            raise CorruptCheckpointError(f'a tensor of shape {ref.shape} cannot be read: {ref.fault}')
        if isinstance(ref, ShardedRef):
            return self._whole(ref)
        if isinstance(ref, (SparseRef, QuantizedRef)):
            return assemble(ref, self.tensor)
        storage = ref.storage
        assert storage is not None and storage.place is not None
        if storage.place not in self._storages:
            self._storages[storage.place] = _bytes(storage.place, 0, storage.place.nbytes, ref.dtype)
        raw = self._storages[storage.place]
        whole = raw[:raw.numel() // WIDTHS[ref.dtype] * WIDTHS[ref.dtype]].view(getattr(torch, ref.dtype))
        return whole.as_strided(ref.shape, ref.stride, ref.offset)

    def _tensor_or_none(self, ref: TensorRef, lost: dict[str, str], path: str) -> torch.Tensor | None:
        fault = ref.fault
        try:
            if fault is None:
                return self.tensor(ref)
        except CorruptCheckpointError as error:
            if not isinstance(ref, (SparseRef, QuantizedRef)):
                raise
            fault = str(error)
        lost[path] = fault
        return None

    def _whole(self, ref: ShardedRef) -> torch.Tensor:
        whole = torch.empty(ref.shape, dtype=getattr(torch, ref.dtype))
        for at, piece in ref.pieces:
            whole[tuple(slice(a, a + n) for a, n in zip(at, piece.shape))] = self.tensor(piece)
        return whole

    def array(self, ref: ArrayRef, lost: dict[str, str], path: str) -> Any:
        """Return a numeric NumPy array; other kinds are lost."""
        try:
            dtype = np.dtype(ref.dtype)
            if dtype.kind not in _NUMERIC or ref.data is None:
                raise ValueError(f'an array of {ref.dtype}')
            return np.frombuffer(ref.data, dtype).reshape(ref.shape, order='F' if ref.fortran else 'C').copy()
        except (ValueError, TypeError) as error:
            lost[path] = str(error)
            return None

    @staticmethod
    def _named(value: Named) -> Any:
        if value.module == 'torch' and isinstance(getattr(torch, value.name, None), torch.dtype):
            return getattr(torch, value.name)
        return str(value)

    def _object(self, value: Opaque, lost: dict[str, str], path: str) -> Any:
        if value.name == 'set':
            return [self.tree(item, lost, path) for item in value.items]
        if value.name == 'argparse.Namespace' and isinstance(value.state, dict):
            return self.tree(value.state, lost, path)
        if value.name == 'mmengine.logging.history_buffer.HistoryBuffer' and isinstance(value.state, dict):
            return {'$history': self.tree({k: value.state.get(k) for k in (
                'max_length', '_log_history', '_count_history')}, lost, path)}
        if value.items and all(isinstance(item, tuple) and len(item) == 2 for item in value.items):
            return self.tree({k: v for k, v in value.items if isinstance(k, (str, int))}, lost, path)
        lost[path] = f'an object of {value.name}'
        return None


def statistics(ref: TensorRef | ArrayRef) -> Statistics | None:
    """Read a tensor piece by piece and tell what its values are like; None if they cannot be read.

    It needs some 100 MB of memory at most, whatever the tensor's size.
    """
    nan = inf = count = 0
    total, low, high, zero = 0.0, None, None, True
    for piece in _pieces(ref):
        finite = torch.isfinite(piece)
        good = piece[finite]
        nan += int(torch.isnan(piece).sum())
        inf += int(torch.isinf(piece).sum())
        zero = zero and not bool(piece.any())
        if good.numel():
            low = min(float(good.min()), float('inf') if low is None else low)
            high = max(float(good.max()), float('-inf') if high is None else high)
            total, count = total + float(good.sum()), count + good.numel()
    if not count and not nan and not inf:
        return None
    return Statistics(nan, inf, zero, low, high, total / count if count else None)


def too_often(content: Content) -> str | None:
    """Why the tensors of a file are not read one by one, or None if they are.

    Thousands of tensors in a small file can all look at the same bytes, and
    would cost as much time as a file thousands of times its size.
    """
    claimed = sum(_claimed(ref) for _, ref in tensors_in(content.tree))
    if claimed <= max(_FEW, _MOST_TIMES * content.size):
        return None
    return f'its tensors look at {claimed} bytes, and the file has {content.size}: they share them again and again'


def apart(ref: TensorRef) -> torch.Tensor:
    """Return one tensor, and read little more for it than its own elements, however large its storage is.

    Raises:
        CorruptCheckpointError: If its bytes are not all there.
    """
    if isinstance(ref, (SparseRef, QuantizedRef)) and ref.fault is None:
        return assemble(ref, apart)
    if ref.fault is not None or isinstance(ref, ShardedRef):
        return ValueReader().tensor(ref)
    assert ref.storage is not None and ref.storage.place is not None
    dtype, width = getattr(torch, ref.dtype), WIDTHS[ref.dtype]
    reach = _reach(ref) if ref.numel else 0
    if reach <= max(_NEAR, 4 * ref.nbytes):
        raw = _bytes(ref.storage.place, ref.offset * width, reach, ref.dtype)
        return raw.view(dtype).as_strided(ref.shape, ref.stride)
    return _gathered(ref.storage.place, ref).view(dtype).reshape(ref.shape)


def index_fault(ref: SparseRef) -> str | None:
    """Read the indices of a sparse tensor piece by piece and tell if some lie outside of it."""
    for indices, end in ranges(ref) if ref.fault is None else ():
        known = statistics(indices)
        if known is not None and known.low is not None and (known.low < 0 or known.high >= end):
            return f'its indices reach from {known.low:.15g} to {known.high:.15g}, outside of its shape'
    return None


def _pieces(ref: TensorRef | ArrayRef) -> Iterator[torch.Tensor]:
    if isinstance(ref, ArrayRef):
        array = ValueReader().array(ref, {}, '')
        if isinstance(array, np.ndarray) and array.dtype.kind != 'c' and array.size:
            yield torch.from_numpy(array.astype(np.float64)).reshape(-1)
        return
    if isinstance(ref, ShardedRef):
        for _, piece in ref.pieces if ref.fault is None else ():
            yield from _pieces(piece)
        return
    if isinstance(ref, SparseRef):
        yield from _pieces(ref.values) if ref.fault is None and ref.values is not None else ()
        return
    if isinstance(ref, QuantizedRef):
        yield from _quantized_pieces(ref)
        return
    if ref.fault is not None or ref.storage is None or ref.storage.place is None or not ref.numel:
        return
    dtype, width = getattr(torch, ref.dtype), WIDTHS[ref.dtype]
    if dtype.is_complex:
        return
    # All that the strides can reach; strides of 0 do not make more of it.
    reach = _reach(ref)
    if reach > ref.nbytes:
        yield apart(ref).to(torch.float64).reshape(-1)
        return
    for start in range(0, reach, _CHUNK):
        raw = _bytes(ref.storage.place, ref.offset * width + start, min(_CHUNK, reach - start), ref.dtype)
        yield raw.view(dtype).to(torch.float64)


def _quantized_pieces(ref: QuantizedRef) -> Iterator[torch.Tensor]:
    if ref.fault is not None or (ref.scheme != 'per_tensor_affine' and ref.shape[ref.axis] > _MOST_CHANNELS):
        return
    for plain, scale, zero_point in channels(ref, ValueReader().tensor):
        for piece in _pieces(plain):
            yield (piece - zero_point) * scale


def _claimed(ref: TensorRef | ArrayRef) -> int:
    """Bytes of a file that a tensor looks at."""
    if isinstance(ref, ShardedRef):
        return sum(_claimed(piece) for _, piece in ref.pieces)
    if isinstance(ref, SparseRef):
        return sum(map(_claimed, ref.stored))
    place = ref.storage.place if isinstance(ref, TensorRef) and ref.storage is not None else None
    return 0 if place is None else min(ref.nbytes, place.nbytes)


def _reach(ref: TensorRef) -> int:
    """Bytes from the first to the last element of a tensor that has some."""
    return (sum((n - 1) * s for n, s in zip(ref.shape, ref.stride)) + 1) * WIDTHS[ref.dtype]


def _gathered(place: Place, ref: TensorRef) -> torch.Tensor:
    """The bytes of elements that lie far apart, side by side."""
    width = WIDTHS[ref.dtype]
    whole = np.memmap(place.path, np.uint8, 'r', place.start + ref.offset * width, (_reach(ref),))
    # NumPy has fewer dimensions than torch; those of one element are not needed.
    steps = [(size, step * width) for size, step in zip(ref.shape, ref.stride) if size > 1]
    shape, strides = zip(*steps, (width, 1))
    found = np.lib.stride_tricks.as_strided(whole, shape, strides, writeable=False)
    raw = torch.from_numpy(np.array(found, order='C').reshape(-1))
    return _in_order(raw, ref.dtype) if place.swapped else raw


def _bytes(place: Place, start: int, count: int, dtype: str) -> torch.Tensor:
    buffer = torch.empty(count, dtype=torch.uint8)
    view = memoryview(buffer.numpy()) if count else memoryview(b'')
    with open(place.path, 'rb', buffering=0) as file:
        file.seek(place.start + start)
        done = 0
        while done < count:
            got = file.readinto(view[done:])
            if not got:
                raise CorruptCheckpointError(f'{place.path} ends before byte {place.start + start + count}')
            done += got
    return _in_order(buffer, dtype) if place.swapped else buffer


def _in_order(raw: torch.Tensor, dtype: str) -> torch.Tensor:
    """Big-endian numbers as this processor has them."""
    width = WIDTHS[dtype] // (2 if dtype.startswith('complex') else 1)
    whole = raw.numel() // width * width
    raw[:whole] = raw[:whole].view(-1, width).flip(1).view(-1)
    return raw
