"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS = {'s': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}


def parse_duration(text: str | float) -> float:
    """Return the seconds of a duration.

    Args:
        text (str or float): ``'[D-]HH:MM:SS'`` as SLURM writes it, ``'MM:SS'``,
            a number with a unit such as ``'24h'``, ``'90m'``, ``'1.5d'`` or
            ``'30s'``, or a number of seconds.

    Raises:
        ValueError: If it is none of these, or not above 0.

    Example:
        >>> parse_duration('1-02:00:30'), parse_duration('05:00'), parse_duration('24h'), parse_duration(90)
        (93630.0, 300.0, 86400.0, 90.0)
    """
    clock = re.fullmatch(r'(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)', str(text).strip())
    unit = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([smhd])', str(text).strip())
    if clock is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        duration = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    elif unit is not None:
        duration = float(unit[1]) * _UNITS[unit[2]]
    elif isinstance(text, (int, float)):
        duration = float(text)
    else:
        raise ValueError(f"Expected a duration such as '23:30:00', '1-12:00:00', '24h' or seconds, but got {text!r}.")
    if not duration > 0:
        raise ValueError(f'A duration must be above 0, but got {text!r}.')
    return duration
