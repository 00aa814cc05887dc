"""The one key that mmckpt adds to a checkpoint."""

from __future__ import annotations

from typing import Any

VERSION = 1


def envelope(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the ``mmckpt`` entry of a checkpoint, made if absent.

    Example:
        >>> checkpoint = {}
        >>> envelope(checkpoint)['val_pending'] = True
        >>> checkpoint
        {'mmckpt': {'version': 1, 'val_pending': True}}
    """
    part: dict[str, Any] = checkpoint.setdefault('mmckpt', {'version': VERSION})
    return part
