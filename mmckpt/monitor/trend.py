"""Whether a few measurements rise steadily, robust against outliers."""

from __future__ import annotations

from collections.abc import Sequence


def steadiness(values: Sequence[float]) -> float:
    """How steadily values rise: 1 if every later one is larger, 0 without a trend, -1 if they only fall.

    A single step up in the middle gives about a half.

    Source: Kendall (1938), A new measure of rank correlation (tau-a, against
    the time).

    Example:
        >>> steadiness([1, 2, 3, 4]), steadiness([5, 5, 5, 5]), round(steadiness([1, 1, 1, 9, 9, 9]), 1)
        (1.0, 0.0, 0.6)
    """
    n = len(values)
    if n < 2:
        return 0.0
    signs = sum((late > early) - (late < early) for i, early in enumerate(values) for late in values[i + 1:])
    return 2 * signs / (n * (n - 1))


def slope(values: Sequence[float]) -> float:
    """Rise from one value to the next: the median of the slopes between all pairs.

    Source: Sen (1968), Estimates of the regression coefficient based on
    Kendall's tau.

    Example:
        >>> slope([0.0, 1.0, 2.0, 100.0, 4.0])
        1.0
    """
    slopes = sorted((late - values[i]) / (j - i) for i in range(len(values))
                    for j, late in enumerate(values) if j > i)
    return slopes[len(slopes) // 2] if slopes else 0.0
