"""What a planned rise of the learning rate, such as a warm restart, may cost."""

from __future__ import annotations

# A restart gives back some of what was gained, a collapse all of it.
SHARE = 0.75


def is_expected(lost: float, gained: float) -> bool:
    """Whether a planned rise of the learning rate explains that a loss or metric got worse.

    Args:
        lost (float): How much worse it is than its best or recent level.
        gained (float): How much better that level was than the one of the start.

    Example:
        >>> is_expected(lost=0.7, gained=2.0), is_expected(lost=2.0, gained=2.0), is_expected(lost=0.1, gained=0.0)
        (True, False, False)
    """
    return lost <= SHARE * gained
