"""Statistics of loss terms and metrics over a whole run, constant in its length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress


class RunningStatistics:
    """Count, mean, standard deviation, minimum, maximum and last of a stream of numbers.

    NaN and infinities are counted apart and enter none of these but ``last``.
    The standard deviation is that of the population (divided by ``count``).

    Source: Welford (1962), Note on a method for calculating corrected sums of
    squares and products.

    Example:
        >>> statistics = RunningStatistics()
        >>> for value in (1.0, 3.0, float('nan')):
        ...     statistics.update(value)
        >>> statistics.mean, statistics.std, statistics.count, statistics.non_finite
        (2.0, 1.0, 2, 1)
    """

    __slots__ = ('count', 'mean', 'min', 'max', 'last', 'non_finite', '_squares')

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.min = math.inf
        self.max = -math.inf
        self.last: float | None = None
        self.non_finite = 0
        self._squares = 0.0

    def update(self, value: float) -> None:
        """Take one number."""
        self.last = value
        # False for NaN and both infinities.
        if -math.inf < value < math.inf:
            self.count += 1
            delta = value - self.mean
            self.mean += delta / self.count
            self._squares += delta * (value - self.mean)
            if value < self.min:
                self.min = value
            if value > self.max:
                self.max = value
        else:
            self.non_finite += 1

    def extend(self, values: Sequence[float]) -> None:
        """Take several numbers, at a fraction of the time that one by one would need.

        Source: Chan, Golub and LeVeque (1979), Updating formulae and a
        pairwise algorithm for computing sample variances.
        """
        total, n = sum(values), len(values)
        if n == 0 or not math.isfinite(total):
            for value in values:
                self.update(value)
            return
        low, high, count = min(values), max(values), self.count + n
        # A constant must not get a deviation by rounding.
        mean = low if low == high else total / n
        delta = mean - self.mean
        # The fastest root of a sum of squares that Python has.
        distance = math.dist(values, [mean] * n)
        self._squares += distance * distance + delta * delta * self.count * n / count
        self.mean += delta * n / count
        self.count, self.last = count, values[-1]
        self.min, self.max = min(self.min, low), max(self.max, high)

    @property
    def std(self) -> float:
        """Standard deviation of the finite values; 0.0 where there is none."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0

    def summary(self) -> dict[str, float | None]:
        """Return the statistics by name; None where no finite value has come."""
        known = self.count > 0
        return {
            'mean': self.mean if known else None, 'std': self.std if known else None,
            'min': self.min if known else None, 'max': self.max if known else None,
            'final': self.last, 'count': self.count, 'non_finite': self.non_finite,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain types."""
        return {'version': VERSION, **{name: getattr(self, name) for name in self.__slots__}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        for name in self.__slots__:
            setattr(self, name, state[name])


class MetricStatistics:
    """The best value of a validation metric, when it was reached, and the last one.

    Args:
        rule (str, optional): ``'greater'`` or ``'less'`` is better; None if
            that is not known, and then there is no best. Defaults to None.

    Example:
        >>> statistics = MetricStatistics('greater')
        >>> for epoch, value in enumerate((0.2, 0.7, 0.5), start=1):
        ...     statistics.update(value, Progress(epoch=epoch, iter=10 * epoch))
        >>> statistics.summary()['best'], statistics.summary()['best_epoch']
        (0.7, 2)
    """

    def __init__(self, rule: str | None = None) -> None:
        self.rule = rule
        self._values = RunningStatistics()
        self._best: float | None = None
        self._best_at = Progress(epoch=0, iter=0)

    def update(self, value: float, progress: Progress) -> None:
        """Take the value of one validation; a NaN or infinite one is never the best."""
        self._values.update(value)
        if self.rule is None or not math.isfinite(value):
            return
        if self._best is None or (value > self._best if self.rule == 'greater' else value < self._best):
            self._best, self._best_at = value, progress

    def summary(self) -> dict[str, Any]:
        """Return best, its epoch and iteration, rule, and the statistics over all validations."""
        found = self._best is not None
        return {
            'best': self._best, 'best_epoch': self._best_at.epoch if found else None,
            'best_iter': self._best_at.iter if found else None, 'rule': self.rule, **self._values.summary(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain types."""
        at = self._best_at
        return {'version': VERSION, 'values': self._values.state_dict(), 'best': self._best,
                'best_epoch': at.epoch, 'best_iter': at.iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._values.load_state_dict(state['values'])
        self._best = state['best']
        self._best_at = Progress(epoch=state['best_epoch'], iter=state['best_iter'])
