"""Paths of somebody's machine in what is handed out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PATH = r'(?:/|~[/\\]|[A-Za-z]:[/\\])[^\'"\n]+'
# As a config is written: everything else in it is no text.
_QUOTED = re.compile(rf'(?P<quote>[\'"])(?P<path>{_PATH})(?P=quote)')


def local_paths(meta: Any) -> list[str]:
    """Return the absolute paths in the config and the settings of a checkpoint, each once.

    Args:
        meta (Any): The checkpoint's ``meta``, or a part of it.

    Example:
        >>> local_paths({'cfg': "data_root = '/home/ann/coco/'\\nurl = 's3://data/coco'\\nmetric = 'coco/AP'"})
        ['/home/ann/coco/']
    """
    return list(dict.fromkeys(_paths(meta)))


def without_local_paths(meta: Any) -> Any:
    """Return a copy in which the last part alone is left of each absolute path.

    Example:
        >>> without_local_paths({'cfg': "data_root = '/home/ann/coco/'", 'root': '/home/ann/runs'})
        {'cfg': "data_root = 'coco/'", 'root': 'runs'}
    """
    if isinstance(meta, dict):
        return {key: without_local_paths(value) for key, value in meta.items()}
    if isinstance(meta, (list, tuple)):
        return type(meta)([without_local_paths(value) for value in meta])
    if not isinstance(meta, str):
        return meta
    if re.fullmatch(_PATH, meta):
        return _last_part(meta)
    return _QUOTED.sub(lambda m: m['quote'] + _last_part(m['path']) + m['quote'], meta)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str):
        whole = re.fullmatch(_PATH, value)
        yield from [value] if whole else (match['path'] for match in _QUOTED.finditer(value))


def _last_part(path: str) -> str:
    found = re.search(r'([^/\\]+)([/\\]*)$', path)
    return f'{found[1]}{found[2][:1]}' if found else path
