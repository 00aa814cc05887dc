"""What a file holds, as data: shapes and places of tensors, and placeholders for everything that is code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Bytes of one element, by torch's name of the dtype.
WIDTHS = {
    'float64': 8, 'float32': 4, 'float16': 2, 'bfloat16': 2, 'complex128': 16, 'complex64': 8, 'complex32': 4,
    'int64': 8, 'int32': 4, 'int16': 2, 'int8': 1, 'uint64': 8, 'uint32': 4, 'uint16': 2, 'uint8': 1, 'bool': 1,
    'float8_e4m3fn': 1, 'float8_e5m2': 1, 'float8_e4m3fnuz': 1, 'float8_e5m2fnuz': 1, 'float8_e8m0fnu': 1,
    'quint8': 1, 'qint8': 1, 'qint32': 4}


@dataclass(frozen=True)
class Place:
    """Where bytes lie.

    Args:
        path (str): The file.
        start (int): Its first byte.
        nbytes (int): How many there are.
        swapped (bool): Whether each number has its bytes the other way round. Defaults to False.
    """

    path: str
    start: int
    nbytes: int
    swapped: bool = False


@dataclass(frozen=True, eq=False)
class Storage:
    """The memory that one or several tensors look into.

    Args:
        key (str): Its name in the file.
        dtype (str): Of its elements, such as ``'float32'``.
        numel (int): Elements that the file says it has.
        device (str): Where it was when it was saved.
        place (Place or None): Its bytes, or None if the file has none.
    """

    key: str
    dtype: str
    numel: int
    device: str
    place: Place | None


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor that nobody has read yet.

    Args:
        dtype (str): Such as ``'float32'``.
        shape (tuple[int, ...]): Its sizes, as the file says.
        stride (tuple[int, ...]): Elements between neighbours, by dimension.
        offset (int): Its first element in the storage.
        storage (Storage or None): Its memory; None if there is none to be read.
        kind (str): ``'tensor'``, ``'parameter'`` or what else it is.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: Storage | None
    kind: str = 'tensor'

    @property
    def numel(self) -> int:
        """Elements, as the file says."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that its elements need."""
        return self.numel * WIDTHS.get(self.dtype, 0)

    @property
    def fault(self) -> str | None:
        """Why its values cannot be read, or None if they can."""
        if self.storage is None:
            return 'the file holds no plain values of it'
        if self.dtype not in WIDTHS:
            return f'its dtype {self.dtype} is unknown'
        if self.dtype.startswith('q'):
            return 'its numbers stand for others, and it does not say for which'
        if len(self.stride) != len(self.shape):
            return f'its shape has {len(self.shape)} dimensions and {len(self.stride)} strides'
        if not all(0 <= number < 1 << 63 for number in (*self.shape, *self.stride, self.offset)):
            return 'its shape, strides or offset are negative or too large'
        place = self.storage.place
        if place is None:
            return f'the file has no bytes for its storage {self.storage.key[:40]!r}'
        need = (self.offset + _extent(self)) * WIDTHS[self.dtype]
        if need > place.nbytes:
            return f'it claims {need} bytes of a storage that has {place.nbytes}'
        return None


@dataclass(frozen=True, eq=False)
class ShardedRef(TensorRef):
    """A tensor of which each process wrote a piece.

    Args:
        pieces (tuple): ``(first index by dimension, tensor)`` of each piece. Defaults to none.
    """

    pieces: tuple[tuple[tuple[int, ...], TensorRef], ...] = ()

    @property
    def fault(self) -> str | None:
        """Why its values cannot be read, or None if they can."""
        if self.dtype not in WIDTHS or min(self.shape, default=0) < 0:
            return f'a tensor of {self.dtype} and the shape {self.shape} is unknown'
        inside = all(len(at) == len(piece.shape) == len(self.shape) and piece.dtype == self.dtype
                     and all(0 <= a <= a + n <= m for a, n, m in zip(at, piece.shape, self.shape))
                     for at, piece in self.pieces)
        found = sum(piece.numel for _, piece in self.pieces)
        if not inside or found != self.numel:
            return f'its {len(self.pieces)} pieces have {found} elements of {self.numel}'
        return next((piece.fault for _, piece in self.pieces if piece.fault), None)


@dataclass(eq=False)
class ArrayRef:
    """A NumPy array, its bytes inside the pickle.

    Args:
        dtype (str): NumPy's text for it, such as ``'<f8'``.
        shape (tuple[int, ...]): Its sizes.
        fortran (bool): Whether the first dimension varies fastest.
        data (bytes or memoryview or None): Its bytes, None for arrays of objects.
    """

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    data: bytes | memoryview | None

    @property
    def nbytes(self) -> int:
        """Bytes that are there."""
        return 0 if self.data is None else len(self.data)


@dataclass(frozen=True)
class Named:
    """A class or function that the file names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f'{self.module}.{self.name}' if self.module else self.name


@dataclass(eq=False)
class Opaque:
    """Stands for an object that only its own code could make.

    Args:
        name (str): Of its class, or of the function that would be called.
        args (tuple): What it would be called with.
        state (Any): What would be set on it. Defaults to None.
        items (list): Entries of a list or ``(key, value)`` pairs of a dict that it is. Defaults to none.
    """

    name: str
    args: tuple = ()
    state: Any = None
    items: list = field(default_factory=list)


def tensors_in(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, TensorRef | ArrayRef]]:
    """Yield ``(path, tensor)`` of all tensors and arrays in a tree, also those inside placeholders.

    Args:
        tree (Any): What :func:`mmckpt.files.open_file` found.
        path (tuple): Keys that lead to it. Defaults to none.
    """
    if isinstance(tree, (TensorRef, ArrayRef)):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from tensors_in(value, (*path, key))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from tensors_in(value, (*path, i))
    elif isinstance(tree, Opaque):
        for name, part in (('args', tree.args), ('state', tree.state), ('items', tree.items)):
            yield from tensors_in(part, (*path, name))


def _extent(ref: TensorRef) -> int:
    if ref.numel == 0:
        return 0
    return sum((size - 1) * step for size, step in zip(ref.shape, ref.stride)) + 1
