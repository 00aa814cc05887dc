"""Whether a process that was noted somewhere still lives."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]


def is_alive(pid: int, started: float) -> bool:
    """Tell whether a process of this host lives, and is not another one with its number.

    Args:
        pid (int): Process id.
        started (float): When it was noted, seconds since 1970.

    Example:
        >>> import os, time
        >>> is_alive(os.getpid(), time.time()), is_alive(os.getpid(), 0.0)
        (True, False)
    """
    try:
        # A process that started later has only inherited the number.
        return bool(psutil.Process(pid).create_time() <= started + 1)
    except psutil.Error:
        return False
