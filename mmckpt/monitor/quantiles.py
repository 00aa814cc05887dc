"""Quantiles of a stream of numbers in constant memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mmckpt.monitor.blocks import finite
from mmckpt.monitor.versioned import VERSION, check_version

# Width of a side in buckets; with 2 % accuracy that is 17 orders of magnitude.
MAX_BUCKETS = 1000
# Magnitudes below this count as zero.
TINY = 1e-12
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class QuantileSketch:
    """Quantiles with a bounded *relative* error, whatever the order and the number of values.

    Values are counted in buckets whose bounds grow geometrically. NaN and
    infinities are left out.

    Args:
        accuracy (float): Largest relative error of a quantile, between 0 and
            1. Defaults to 0.02.

    Raises:
        ValueError: If ``accuracy`` is out of its range.

    Source: Masson, Rim and Lee (2019), DDSketch: a fast and fully-mergeable
    quantile sketch with relative-error guarantees, PVLDB 12(12).

    Example:
        >>> sketch = QuantileSketch()
        >>> sketch.extend(range(1, 1001))
        >>> [round(value, -2) for value in sketch.quantiles([0.1, 0.5, 0.9])]
        [100.0, 500.0, 900.0]
    """

    def __init__(self, accuracy: float = 0.02) -> None:
        if not 0 < accuracy < 1:
            raise ValueError(f'accuracy must be between 0 and 1, but got {accuracy}.')
        self._base = (1 + accuracy) / (1 - accuracy)
        self._scale = 1 / math.log(self._base)
        # Buckets of positive and of negative values, by the exponent of their upper bound.
        self._positive: Counter[int] = Counter()
        self._negative: Counter[int] = Counter()
        self._zeros = 0

    def extend(self, values: Sequence[float]) -> None:
        """Take some numbers."""
        numbers = finite(values)
        positive = numbers if numbers and min(numbers) > TINY else [value for value in numbers if value > TINY]
        self._count(self._positive, positive)
        if len(positive) < len(numbers):
            negative = [-value for value in numbers if value < -TINY]
            self._count(self._negative, negative)
            self._zeros += len(numbers) - len(positive) - len(negative)

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float | None]:
        """Return the value below which each share of the numbers lies; None if there are none."""
        runs = [(-self._middle(e), self._negative[e]) for e in sorted(self._negative, reverse=True)]
        runs += [(0.0, self._zeros)] if self._zeros else []
        runs += [(self._middle(e), self._positive[e]) for e in sorted(self._positive)]
        total = sum(count for _, count in runs)
        return [_value_at(runs, share * (total - 1)) for share in shares]

    def state_dict(self) -> dict[str, Any]:
        """Return the buckets in plain types."""
        return {'version': VERSION, 'zeros': self._zeros,
                'positive': _dense(self._positive), 'negative': _dense(self._negative)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._zeros = state['zeros']
        self._positive, self._negative = _sparse(state['positive']), _sparse(state['negative'])

    def copy(self) -> QuantileSketch:
        """Return a sketch that goes on on its own."""
        twin = QuantileSketch.__new__(QuantileSketch)
        twin.__dict__.update(self.__dict__, _positive=self._positive.copy(), _negative=self._negative.copy())
        return twin

    def _count(self, buckets: Counter[int], magnitudes: Iterable[float]) -> None:
        scale, ceil, known = self._scale, math.ceil, len(buckets)
        buckets.update([ceil(logarithm * scale) for logarithm in map(math.log, magnitudes)])
        # Only new buckets can have made the range wider.
        if len(buckets) > known and max(buckets) - min(buckets) >= MAX_BUCKETS:
            _merge_smallest(buckets)

    def _middle(self, exponent: int) -> float:
        # The value of a bucket from which both of its ends are equally far in proportion.
        return float(2 * self._base ** exponent / (self._base + 1))


def _value_at(runs: Sequence[tuple[float, int]], rank: float) -> float | None:
    seen = 0
    for value, count in runs:
        seen += count
        if seen > rank:
            return value
    return None


def _merge_smallest(buckets: Counter[int]) -> None:
    """Give up accuracy where the numbers are smallest in magnitude."""
    cut = max(buckets) - MAX_BUCKETS + 1
    for exponent in [e for e in buckets if e < cut]:
        buckets[cut] += buckets.pop(exponent)


def _dense(buckets: Counter[int]) -> list[int]:
    """First exponent, then the counts from there on: the shortest form of neighbours."""
    return [min(buckets), *(buckets[e] for e in range(min(buckets), max(buckets) + 1))] if buckets else []


def _sparse(dense: Sequence[int]) -> Counter[int]:
    return Counter({dense[0] + i: count for i, count in enumerate(dense[1:]) if count}) if dense else Counter()
