"""What changed between two configs, read from their text without running it."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ABSENT = '(absent)'


@dataclass(frozen=True)
class ConfigChange:
    """One entry that differs.

    Args:
        path (str): Where, such as ``'train_dataloader.batch_size'``.
        saved (str): Its value in the first config, as Python text.
        now (str): Its value in the second.
        owner (str): Class name that the innermost dict with a ``type`` around it stands for, or ''.
    """

    path: str
    saved: str
    now: str
    owner: str


def read_config_text(text: str) -> dict[str, Any]:
    """Return the values that a config's ``pretty_text`` assigns.

    The text comes from a checkpoint, so nothing in it is run: literals and
    ``dict(...)`` are understood, any other expression stays its source text.

    Args:
        text (str): What MMEngine keeps as ``meta['cfg']``.

    Returns:
        dict: Values by name.

    Raises:
        ValueError: If the text is not Python.

    Example:
        >>> read_config_text("model = dict(type='Net', width=8)\\nlr = min(1, 2)")
        {'model': {'type': 'Net', 'width': 8}, 'lr': 'min(1, 2)'}
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'expected the text of a config, found what is not Python: {error}') from error
    return {target.id: _value(node.value) for node in module.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)}


def config_changes(saved: dict[str, Any], now: dict[str, Any]) -> list[ConfigChange]:
    """Compare two configs entry by entry; items of lists are aligned, so that one more is one change.

    Example:
        >>> [change] = config_changes(dict(hooks=[dict(type='A'), dict(type='B', n=1)]),
        ...                           dict(hooks=[dict(type='B', n=2)]))[:1]
        >>> change.path, change.saved, change.now
        ('hooks[0]', "dict(type='A')", '(absent)')
    """
    return list(_changes(saved, now, '', ''))


def _value(node: ast.expr) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        entries = _dict_call(node)
        if entries is not None:
            return entries
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return ast.unparse(node)


def _dict_call(node: ast.Call) -> dict[Any, Any] | None:
    """The entries of ``dict(a=1)``, and of ``dict({'a-b': 1})``, which MMEngine writes for odd keys."""
    entries: dict[Any, Any] = {}
    for part in [*map(_value, node.args), *({k.arg: _value(k.value)} for k in node.keywords)]:
        if not isinstance(part, dict) or None in part:
            return None
        entries.update(part)
    return entries


def _key(node: Any) -> Any:
    key = _value(node)
    return key if isinstance(key, (str, int, float, bool, tuple)) or key is None else repr(key)


def _changes(saved: Any, now: Any, path: str, owner: str) -> Iterator[ConfigChange]:
    if isinstance(saved, dict) and isinstance(now, dict) and saved.get('type') == now.get('type'):
        owner = _class_name(now) or owner
        for key in [*saved, *(k for k in now if k not in saved)]:
            below = f'{path}.{key}' if path else str(key)
            if key not in saved or key not in now:
                yield _change(below, saved.get(key, _NOTHING), now.get(key, _NOTHING), owner)
            else:
                yield from _changes(saved[key], now[key], below, owner)
    elif _holds_dicts(saved) and _holds_dicts(now):
        yield from _list_changes(saved, now, path, owner)
    elif repr(saved) != repr(now):
        yield _change(path, saved, now, owner)


class _Nothing:
    pass


_NOTHING = _Nothing()


def _list_changes(saved: Any, now: Any, path: str, owner: str) -> Iterator[ConfigChange]:
    # By type first: an item with another argument is the same item, changed.
    steps = difflib.SequenceMatcher(None, [*map(_identity, saved)], [*map(_identity, now)], autojunk=False)
    for _, a, a_end, b, b_end in steps.get_opcodes():
        common = min(a_end - a, b_end - b)
        for i in range(common):
            yield from _changes(saved[a + i], now[b + i], f'{path}[{b + i}]', owner)
        for i in range(a + common, a_end):
            yield _change(f'{path}[{i}]', saved[i], _NOTHING, owner)
        for i in range(b + common, b_end):
            yield _change(f'{path}[{i}]', _NOTHING, now[i], owner)


def _change(path: str, saved: Any, now: Any, owner: str) -> ConfigChange:
    name = _class_name(saved) or _class_name(now) or owner
    return ConfigChange(path, config_text(saved), config_text(now), name)


def config_text(value: Any) -> str:
    """Return a value as a config spells it.

    Example:
        >>> config_text(dict(type='Resize', scale=(640, 480)))
        "dict(type='Resize', scale=(640, 480))"
    """
    if value is _NOTHING:
        return ABSENT
    if isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier() for key in value):
        return f"dict({', '.join(f'{key}={config_text(item)}' for key, item in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(config_text, value))}]"
    return repr(value)


def _holds_dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value)


def _identity(item: Any) -> str:
    return f'type {_class_name(item)}' if _class_name(item) else repr(item)


def _class_name(value: Any) -> str:
    kind = value.get('type') if isinstance(value, dict) else None
    return kind.rpartition('.')[2] if isinstance(kind, str) else ''
