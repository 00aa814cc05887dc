"""The envelope that every saved state of this package has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 1


def check_version(state: Mapping[str, Any], owner: str) -> None:
    """Refuse a saved state of a form that this code does not know.

    Args:
        state (Mapping): What a ``state_dict()`` returned.
        owner (str): Name of the class that the state belongs to.

    Raises:
        ValueError: If ``state['version']`` is not the version written here.

    Example:
        >>> check_version({'version': 1}, 'SpikeDetector')
    """
    found = state.get('version')
    if found != VERSION:
        raise ValueError(
            f'State of {owner}: expected version {VERSION}, but found {found!r}. Another version of mmckpt '
            'wrote it; load it with that version, or let the monitor start anew.')
