"""Curves of any length in bounded memory and with every extreme kept."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence


def m4(steps: Sequence[float], values: Sequence[float], buckets: int) -> tuple[list[float], list[float]]:
    """Thin a curve to the points that a drawing ``buckets`` pixels wide can show.

    Of each stretch the first, smallest, largest and last value stay, so a
    spike of one iteration survives any thinning; one of its values that are
    not finite stays too.

    Source: Jugel et al. (2014), M4: A Visualization-Oriented Time Series Data
    Aggregation, VLDB 7(10).

    Args:
        steps (Sequence[float]): Ascending.
        values (Sequence[float]): As many.
        buckets (int): Stretches of equal length; at most five points stay of each.

    Returns:
        tuple: The steps and the values that stay.

    Example:
        >>> m4(range(8), [0, 0, 9, 0, 0, 0, -5, 0], buckets=1)
        ([0, 2, 6, 7], [0, 9, -5, 0])
    """
    n = len(steps)
    if n <= 4 * buckets:
        return list(steps), list(values)
    start, width = steps[0], (steps[-1] - steps[0]) / buckets or 1.0
    kept: list[int] = []
    begin = 0
    for bucket in range(1, buckets + 1):
        end = n if bucket == buckets else bisect_left(steps, start + bucket * width, lo=begin)
        kept += _telling(values, begin, end)
        begin = end
    return [steps[i] for i in kept], [values[i] for i in kept]


def _telling(values: Sequence[float], begin: int, end: int) -> list[int]:
    finite = [i for i in range(begin, end) if math.isfinite(values[i])]
    chosen = set()
    if finite:
        chosen = {finite[0], finite[-1], min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    if len(finite) < end - begin:
        chosen.add(next(i for i in range(begin, end) if not math.isfinite(values[i])))
    return sorted(chosen)


def trend(steps: Sequence[float], values: Sequence[float], stretches: int) -> tuple[list[float], list[float]]:
    """Return the median of each stretch of a curve, at its middle: its course without its noise.

    Args:
        steps (Sequence[float]): Ascending.
        values (Sequence[float]): As many; those that are not finite are left out.
        stretches (int): Stretches with as many points each.

    Returns:
        tuple: Steps and medians.

    Example:
        >>> trend([1, 2, 3, 4, 5, 6], [1, 9, 1, 2, 2, 7], stretches=2)
        ([2, 5], [1, 2])
    """
    edges = [round(i * len(steps) / stretches) for i in range(stretches + 1)]
    found = [(steps[(a + b) // 2], [v for v in values[a:b] if math.isfinite(v)]) for a, b in zip(edges, edges[1:])]
    known = [(step, statistics.median(part)) for step, part in found if part]
    return [step for step, _ in known], [value for _, value in known]


class Curve:
    """The values of one scalar by step, thinned once there are too many.

    Args:
        limit (int): Points to hold at most; at the limit they are thinned to
            about half. Defaults to 20000.

    Example:
        >>> curve = Curve()
        >>> for step in (10, 20, 30):
        ...     curve.append(step, step / 10)
        >>> curve.cut(30)
        >>> curve.steps, curve.values
        ([10, 20], [1.0, 2.0])
    """

    def __init__(self, limit: int = 20000) -> None:
        self.limit = limit
        self.steps: list[float] = []
        self.values: list[float] = []

    def append(self, step: float, value: float) -> None:
        """Add a point; a step that is not larger than the last one replaces what came from it on."""
        if self.steps and step <= self.steps[-1]:
            self.cut(step)
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) >= self.limit:
            self.steps, self.values = m4(self.steps, self.values, max(1, self.limit // 10))

    def cut(self, step: float) -> None:
        """Forget the points from a step on, which were trained anew."""
        at = bisect_left(self.steps, step)
        del self.steps[at:], self.values[at:]

    def extend(self, other: Curve) -> None:
        """Go on with another curve, which overrides from its first step on."""
        for step, value in zip(other.steps, other.values):
            self.append(step, value)

    def finite(self) -> list[float]:
        """Return the finite values."""
        return [value for value in self.values if math.isfinite(value)]

    @property
    def last(self) -> float:
        """The newest value; NaN if there is none."""
        return self.values[-1] if self.values else math.nan
