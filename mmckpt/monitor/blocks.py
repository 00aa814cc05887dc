"""Blocks of iterations: what slow detectors look at instead of single values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BLOCK_ITERS = 50


class Block(NamedTuple):
    """One term over a block of iterations.

    Args:
        median (float): Median of the finite values; NaN if there is none.
        mean (float): Mean of their magnitudes; NaN if there is none.
        low (float): Smallest finite value; NaN if there is none.
        high (float): Largest finite value; NaN if there is none.
        finite (int): How many values are finite.
        non_finite (int): How many are not.
    """

    median: float
    mean: float
    low: float
    high: float
    finite: int
    non_finite: int


def summarise(values: Sequence[float]) -> Block:
    """Return a block of values in a few numbers.

    Example:
        >>> summarise([3.0, 1.0, float('nan'), 2.0])
        Block(median=2.0, mean=2.0, low=1.0, high=3.0, finite=3, non_finite=1)
    """
    ordered = sorted(finite(values))
    n = len(ordered)
    if n == 0:
        return Block(math.nan, math.nan, math.nan, math.nan, 0, len(values))
    return Block(median_of_sorted(ordered), sum(map(abs, ordered)) / n, ordered[0], ordered[-1], n, len(values) - n)


def finite(values: Sequence[float]) -> Sequence[float]:
    """Leave out NaN and infinities; at little cost where there are none."""
    return values if math.isfinite(sum(values)) else [value for value in values if math.isfinite(value)]


def columns(steps: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Turn the values of several iterations into the list of each term; terms may come and go.

    Example:
        >>> columns([{'a': 1.0}, {'a': 2.0, 'b': 5.0}])
        {'a': [1.0, 2.0], 'b': [5.0]}
    """
    if steps and len(set(map(tuple, steps))) == 1:
        # As nearly always: asking each step for each term is three times as slow.
        return dict(zip(steps[0], map(list, zip(*[values.values() for values in steps]))))
    names = dict.fromkeys(name for values in steps for name in values)
    return {name: [values[name] for values in steps if name in values] for name in names}


def median_of_sorted(ordered: Sequence[float]) -> float:
    """Return the median of values that are in order, at least one."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
