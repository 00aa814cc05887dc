"""What differs between two checkpoints, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.anatomy import anatomy
from mmckpt.files.content import Content
from mmckpt.files.key_rules import without_wrapper
from mmckpt.files.nodes import ArrayRef, Named, Opaque, TensorRef
from mmckpt.files.outline import clean, shown_shape, shown_value
from mmckpt.files.special import SparseRef
from mmckpt.files.values import ValueReader, apart, too_often
from mmckpt.state.config_diff import config_changes, read_config_text
from mmckpt.state.digest import CLOCK_KEYS

ABSENT = '(absent)'
# Elements that strides of 0 may make of fewer bytes; each is compared as eight.
_MOST_REPEATED = 1 << 24
# Differ between any two runs, whatever was trained.
_CLOCKS = ('meta.time', 'meta.experiment_name', 'meta.mmengine_version', 'meta.mmckpt_version')


@dataclass(frozen=True)
class Difference:
    """One entry that differs.

    Args:
        part (str): ``'weights'``, ``'optimizer'``, ``'config'`` ...
        path (str): Where it lies.
        kind (str): ``'only one'``, ``'shape'``, ``'value'``.
        first (str): What the first file has there.
        second (str): What the second file has.
        size (float): Largest difference of a value; 0.0 where there is no number for it.
        clock (bool): Whether it is a time or a name that differs between any two runs.
    """

    part: str
    path: str
    kind: str
    first: str
    second: str
    size: float = 0.0
    clock: bool = False


def differences(first: Content, second: Content) -> Iterator[Difference]:
    """Compare two checkpoints; one pair of tensors is in memory at a time.

    Files of one form are compared entry by entry. Of two forms, such as a
    Lightning checkpoint and weights in a safetensors file, the weights are
    compared, without the prefixes of wrappers.

    Args:
        first (Content): An opened file.
        second (Content): Another one.

    Raises:
        CorruptCheckpointError: If the tensors of a file claim many times its bytes.
    """
    for content in (first, second):
        reason = too_often(content)
        if reason:
            raise CorruptCheckpointError(f'the values in {content.path} are not compared: {reason}')
    parts = anatomy(first.tree), anatomy(second.tree)
    if parts[0].form == parts[1].form:
        for change in _changes(first.tree, second.tree, ''):
            yield change
        return
    yield Difference('form', '', 'value', parts[0].form, parts[1].form)
    bare = [without_wrapper(part.weights) for part in parts]
    for change in _changes(bare[0], bare[1], 'weights'):
        yield change


def part_of(path: str) -> str:
    """Return the part of a checkpoint that a path belongs to, in words.

    Example:
        >>> part_of('optimizer_states[0].state.0.exp_avg'), part_of('mmckpt.rng.ranks[0].torch'), part_of('epoch')
        ('optimizer', 'random streams', 'epoch')
    """
    first = path.replace('[', '.').split('.')[0]
    if path.startswith('mmckpt.rng') or 'rng' in first or first == 'random_state':
        return 'random streams'
    for words, part in ((('state_dict', 'model', 'weights', 'net'), 'weights'), (('ema', 'averag'), 'EMA'),
                        (('optim',), 'optimizer'), (('sched',), 'schedulers')):
        if any(first.startswith(word) for word in words):
            return part
    return first


def _changes(a: Any, b: Any, path: str) -> Iterator[Difference]:
    if isinstance(a, Opaque) and isinstance(b, Opaque) and a.name == b.name:
        for name in ('args', 'state', 'items'):
            yield from _changes(getattr(a, name), getattr(b, name), path)
    elif isinstance(a, (TensorRef, ArrayRef)) and isinstance(b, (TensorRef, ArrayRef)):
        yield from _tensor_change(a, b, path)
    elif path in ('meta.cfg', 'meta.config') and isinstance(a, str) and isinstance(b, str):
        yield from _config_changes(a, b)
    elif isinstance(a, dict) and isinstance(b, dict):
        yield from _dict_changes(a, b, path)
    elif isinstance(a, (list, tuple)) and type(a) is type(b):
        for i in range(max(len(a), len(b))):
            below = f'{path}[{i}]'
            if i < min(len(a), len(b)):
                yield from _changes(a[i], b[i], below)
            else:
                yield _only_one(below, a[i] if i < len(a) else ABSENT, b[i] if i < len(b) else ABSENT)
    elif not _same(a, b):
        size = abs(a - b) if _is_number(a) and _is_number(b) else 0.0
        yield _difference(path, 'value', shown_value(a), shown_value(b), size)


def _dict_changes(a: dict, b: dict, path: str) -> Iterator[Difference]:
    for key in [*a, *(key for key in b if key not in a)]:
        below = f'{path}.{clean(key)}' if path else clean(key)
        if key in a and key in b:
            yield from _changes(a[key], b[key], below)
        else:
            yield _only_one(below, a.get(key, ABSENT), b.get(key, ABSENT))


def _only_one(path: str, a: Any, b: Any) -> Difference:
    return _difference(path, 'only one', *(ABSENT if v is ABSENT else shown_value(v) for v in (a, b)))


def _tensor_change(a: TensorRef | ArrayRef, b: TensorRef | ArrayRef, path: str) -> Iterator[Difference]:
    if a.shape != b.shape or a.dtype != b.dtype:
        yield _difference(path, 'shape', *(f'{ref.dtype} {shown_shape(ref)}' for ref in (a, b)))
        return
    if isinstance(a, SparseRef) or isinstance(b, SparseRef):
        yield from _sparse_change(a, b, path)
        return
    try:
        left, right = _values(a), _values(b)
    except (CorruptCheckpointError, OSError) as error:
        yield _difference(path, 'value', 'cannot be read', str(error)[:100])
        return
    if left is None or right is None:
        if (left is None) != (right is None):
            yield _difference(path, 'value', *('values' if v is not None else 'no values' for v in (left, right)))
        return
    yield from _value_change(left, right, path)


def _sparse_change(a: Any, b: Any, path: str) -> Iterator[Difference]:
    layouts = [ref.layout if isinstance(ref, SparseRef) else 'dense' for ref in (a, b)]
    if layouts[0] != layouts[1]:
        yield _difference(path, 'value', *layouts)
        return
    if a.fault or b.fault:
        if bool(a.fault) != bool(b.fault):
            yield _difference(path, 'value', *('no values' if ref.fault else 'values' for ref in (a, b)))
        return
    try:
        left, right = _stored(a), _stored(b)
    except (CorruptCheckpointError, OSError) as error:
        yield _difference(path, 'value', 'cannot be read', str(error)[:100])
        return
    if all(torch.equal(*pair) for pair in zip(left[:-1], right[:-1])):
        yield from _value_change(_plain(left[-1]), _plain(right[-1]), path)
    else:
        yield _difference(path, 'value', *(f'{len(part[-1])} stored elements{where}' for part, where in (
            (left, ''), (right, ' at other places'))))


def _stored(ref: SparseRef) -> list[torch.Tensor]:
    """Indices and values, each place once and in order."""
    if ref.layout != 'sparse_coo':
        return [apart(part) for part in ref.stored]
    try:
        whole = apart(ref).coalesce()
    except NotImplementedError as error:
        # Of a few dtypes torch adds no elements up.
        raise CorruptCheckpointError(str(error)) from error
    return [whole.indices(), whole.values()]


def _value_change(left: torch.Tensor, right: torch.Tensor, path: str) -> Iterator[Difference]:
    unequal = left.ne(right) & ~(left.isnan() & right.isnan())
    count = int(unequal.sum())
    if count:
        pair = left[unequal], right[unequal]
        gap = (pair[0].double() - pair[1].double()).abs()
        finite = gap[gap.isfinite()]
        size = float(finite.max()) if finite.numel() else float('inf')
        # Where the difference is largest, so that what is shown is what is summed up.
        at = int(torch.where(gap.isfinite(), gap, -1.0).argmax())
        of = f' ({count} of {unequal.numel()} elements)' if unequal.numel() > 1 else ''
        yield _difference(path, 'value', f'{pair[0][at].item():.6g}', f'{pair[1][at].item():.6g}{of}', size)


def _values(ref: TensorRef | ArrayRef) -> torch.Tensor | None:
    if isinstance(ref, TensorRef):
        place = ref.storage.place if ref.storage else None
        if place is not None and ref.nbytes > place.nbytes and ref.numel > _MOST_REPEATED:
            raise CorruptCheckpointError(f'its shape {shown_shape(ref)} repeats the {place.nbytes} bytes in the file')
        found: Any = apart(ref) if ref.fault is None else None
        found = found.dequantize() if found is not None and found.is_quantized else found
    else:
        array = ValueReader().array(ref, {}, '')
        found = torch.from_numpy(array.astype(array.dtype.newbyteorder('='))) if isinstance(array, np.ndarray) else None
    return None if found is None else _plain(found)


def _plain(found: torch.Tensor) -> torch.Tensor:
    if found.is_complex():
        return torch.view_as_real(found).double()
    # Small floats lack operators; integers stay what they are, for float64 loses what is above 2**53.
    return found.to(torch.float64) if found.is_floating_point() else found


def _config_changes(a: str, b: str) -> Iterator[Difference]:
    if a == b:
        return
    try:
        changes = config_changes(read_config_text(a), read_config_text(b))
    except ValueError:
        yield Difference('config', 'meta.cfg', 'value', f'{len(a)} characters', f'{len(b)} characters')
        return
    for change in changes:
        kind = 'only one' if ABSENT in (change.saved, change.now) else 'value'
        yield Difference('config', clean(change.path), kind, clean(change.saved), clean(change.now),
                         clock=change.path in ('work_dir', 'experiment_name'))


def _difference(path: str, kind: str, first: str, second: str, size: float = 0.0) -> Difference:
    clock = path.startswith(_CLOCKS) or any(f'{key}' in f'/{path}'.replace('.', '/') for key in (
        'log_scalars/train' + key for key in CLOCK_KEYS))
    return Difference(part_of(path), path, kind, first, second, size, clock)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (memoryview, bytes)) and isinstance(b, (memoryview, bytes)):
        return bytes(a) == bytes(b)
    return (type(a) is type(b) and (a == b or (a != a and b != b))) if not isinstance(a, (Named, Opaque)) else (
        str(a) == str(b) if isinstance(a, Named) else False)
