"""A checkpoint as an outline: parts, modules and tensors with shapes, dtypes and sizes."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmckpt.files.anatomy import is_weights
from mmckpt.files.nodes import ArrayRef, Named, Opaque, TensorRef, tensors_in
from mmckpt.files.special import SparseRef

_LONGEST = 100


@dataclass
class Line:
    """One entry of an outline.

    Args:
        name (str): The last part of its path.
        path (str): Where it lies, such as ``'state_dict.head.weight'``.
        text (str): A shape, a value or what it is.
        dtype (str): Of a tensor, else ''.
        nbytes (int): Bytes of all tensors in it.
        tensors (int): How many those are.
        ref (TensorRef or ArrayRef or None): The tensor, if it is one.
        below (list[Line]): Its entries.
    """

    name: str
    path: str
    text: str = ''
    dtype: str = ''
    nbytes: int = 0
    tensors: int = 0
    ref: TensorRef | ArrayRef | None = None
    below: list[Line] = field(default_factory=list)


def outline(tree: Any, name: str = '', path: str = '') -> Line:
    """Return the outline of a tree; names of weights are split at their dots.

    Args:
        tree (Any): What :func:`mmckpt.files.open_file` found.
        name (str): Its name. Defaults to ''.
        path (str): Its path. Defaults to ''.
    """
    line = Line(name, path)
    if isinstance(tree, (TensorRef, ArrayRef)):
        line.text, line.dtype, line.ref = shown_shape(tree), tree.dtype, tree
        line.nbytes, line.tensors = tree.nbytes, 1
        if isinstance(tree, SparseRef):
            line.text += ' sparse'
        return line
    if is_weights(tree) and not any('/' in key for key in tree):
        line.below = _modules({tuple(key.split('.')): value for key, value in tree.items()}, path)
    elif isinstance(tree, dict) or (isinstance(tree, (list, tuple, Opaque)) and any(True for _ in tensors_in(tree))):
        line.below = [outline(value, clean(key), f'{path}.{clean(key)}' if path else clean(key))
                      for key, value in _entries(tree)]
    else:
        line.text = shown_value(tree)
        # A file that is a single value has a line for it.
        line.below = [] if path or name == 'value' else [outline(tree, 'value', 'value')]
        return line
    line.nbytes = sum(child.nbytes for child in line.below)
    line.tensors = sum(child.tensors for child in line.below)
    if isinstance(tree, Opaque):
        line.text = _history(tree) or f'<{clean(tree.name)}>'
    elif not line.tensors:
        line.text = f'{len(line.below)} entries' if line.below else 'empty'
    return line


def _history(tree: Opaque) -> str:
    """What MMEngine has logged of one value is an object of its own, of which only the length is of interest."""
    state = tree.state if tree.name == 'mmengine.logging.history_buffer.HistoryBuffer' else None
    values = state.get('_log_history') if isinstance(state, dict) else None
    return f'{math.prod(values.shape)} logged' if isinstance(values, ArrayRef) else ''


def matching(line: Line, pattern: str) -> Iterator[Line]:
    """Yield the tensors and values whose path holds a text, or matches it if it has ``*``, ``?`` or ``[``."""
    wild = any(sign in pattern for sign in '*?[')
    for child in line.below:
        if child.below:
            yield from matching(child, pattern)
        elif fnmatch.fnmatchcase(child.path, pattern) if wild else pattern in child.path:
            yield child


def leaves(line: Line) -> Iterator[Line]:
    """Yield all tensors, in order."""
    if line.ref is not None:
        yield line
    for child in line.below:
        yield from leaves(child)


def shown_shape(ref: TensorRef | ArrayRef) -> str:
    """Return a shape as text: ``64x3x7x7``, and ``scalar`` for none.

    Example:
        >>> shown_shape(ArrayRef('<f8', (64, 3), False, b''))
        '64x3'
    """
    shape = [str(n) if abs(n) < 10 ** 15 else f'{n:.1e}' if abs(n) < 10 ** 300 else 'huge' for n in ref.shape[:8]]
    return 'x'.join(shape) + ('x...' if len(ref.shape) > 8 else '') if shape else 'scalar'


def shown_value(value: Any) -> str:
    """Return a value as a short line without control characters, whatever it is.

    Example:
        >>> shown_value({'a': 1}), shown_value('line\\n\\x1b[31mred')
        ("{'a': 1}", "'line\\\\n\\\\x1b[31mred'")
    """
    return clean(_text(value, 3))


def clean(value: Any) -> str:
    """Return a text that a terminal shows instead of obeying it, of at most 100 characters."""
    if isinstance(value, Opaque):
        value = f'<{value.name}>'
    text = value[:_LONGEST + 1] if isinstance(value, str) else str(value)[:_LONGEST + 1]
    return printable(text if len(text) <= _LONGEST else f'{text[:_LONGEST - 3]}...')


def printable(text: str, keep: str = '') -> str:
    """Return a text with its control characters spelled out.

    Args:
        text (str): May come from a file that nobody trusts.
        keep (str): Characters that stay. Defaults to none.

    Example:
        >>> printable('\\x1b[2Jcleared')
        '\\\\x1b[2Jcleared'
    """
    return ''.join(c if c.isprintable() or c in keep else c.encode('unicode_escape', 'replace').decode() for c in text)


def _text(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return repr(value[:_LONGEST]) if len(value) <= _LONGEST else f'text of {len(value)} characters'
    if isinstance(value, (bytes, memoryview)):
        return f'{len(value)} bytes'
    if isinstance(value, Opaque):
        return f'<{value.name[:_LONGEST]}>'
    if isinstance(value, (TensorRef, ArrayRef)):
        return f'{value.dtype} {shown_shape(value)}'
    if isinstance(value, (dict, list, tuple)):
        return _listing(value, depth)
    return str(value) if isinstance(value, Named) else repr(value)


def _listing(value: Any, depth: int) -> str:
    if not depth:
        return f'{len(value)} entries'
    if isinstance(value, dict):
        inner = ', '.join(f'{_text(k, depth - 1)}: {_text(v, depth - 1)}' for k, v in list(value.items())[:6])
        brackets = '{}'
    else:
        inner = ', '.join(_text(item, depth - 1) for item in value[:8])
        brackets = '[]' if isinstance(value, list) else '()'
    more = len(value) - (6 if isinstance(value, dict) else 8)
    return f'{brackets[0]}{inner}{f", ... {more} more" if more > 0 else ""}{brackets[1]}'


def _entries(tree: Any) -> Any:
    if isinstance(tree, dict):
        return tree.items()
    if isinstance(tree, Opaque):
        return [(name, part) for name, part in (('args', tree.args), ('state', tree.state), ('items', tree.items))
                if part]
    return enumerate(tree)


def _modules(tensors: dict[tuple[str, ...], Any], path: str) -> list[Line]:
    """Group tensors by the first part of their names, deeper where that tells them apart."""
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    for key, value in tensors.items():
        groups.setdefault(key[0], {})[key[1:]] = value
    lines = []
    for first, inside in groups.items():
        name, below = clean(first), f'{path}.{clean(first)}' if path else clean(first)
        if () in inside and len(inside) == 1:
            lines.append(outline(inside[()], name, below))
            continue
        own = inside.pop((), None)
        if own is not None:
            lines.append(outline(own, name, below))
        # A name with very many dots is a leaf at some point.
        deep = path.count('.') > 40
        children = [outline(v, '.'.join(map(clean, k)), f"{below}.{'.'.join(map(clean, k))}") for k, v in
                    inside.items()] if deep else _modules(inside, below)
        lines.append(Line(name, below, nbytes=sum(c.nbytes for c in children),
                          tensors=sum(c.tensors for c in children), below=children))
    return lines
