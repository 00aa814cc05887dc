"""Finds a loss that jumps far above what it has been lately."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmckpt.monitor.blocks import median_of_sorted
from mmckpt.monitor.finding import Finding, Severity
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

DEFAULT_FACTOR = 2.0
NEGATIVE_INFINITY = -math.inf
LARGEST = sys.float_info.max
# An average of fewer values than this says nothing, even where the caller set the factor.
MIN_VALUES = 10
# This many values in a row, each half as far out as one outlier must be, are no chance either.
RUN = 5
# A single value this many times as far out as an outlier is no ordinary one.
ENORMOUS = 2.0
AFTER_RISE = ', after a planned rise of the learning rate'
# Makes the median absolute deviation of normal noise equal to its standard deviation.
MAD_TO_STD = 1.4826


class SpikeDetector:
    """Fires where a loss term exceeds a factor of its recent average.

    By default it fires only where the current value is more than twice the
    average of the window *and* a robust one-sided test agrees: one value far
    out, or five in a row half as far. Twice the average alone is ordinary
    noise for small batches. With an explicit ``factor`` that factor alone
    decides. A lone value that is far out but not enormous is an info by
    default: small batches have such values in healthy runs. So is, without an
    explicit ``factor``, what follows a planned rise of the learning rate, up to
    twice the level of the start.

    A value that fired or was about to is kept out of the average, so that one
    spike does not hide the next. A term that stays high for a whole window has found a new
    level: that is said once, and the average starts anew. Entries whose name
    lacks ``loss`` (such as ``acc``) are not watched.

    Args:
        factor (float, optional): Ratio of the current value to the recent
            average above which it fires. Defaults to None, which means 2 and
            the robust test.
        window (int): Values of a term that make up its recent average; at
            least 10. Defaults to 50.
        n_std (float): How many robust standard deviations above the median
            one value must lie, see :func:`robust_distance`. Not used with an
            explicit ``factor``. Defaults to 6.0.
        warmup (int, optional): Values of a term that pass before it can fire.
            Defaults to None, which means a full window, or 10 values with an
            explicit ``factor``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = SpikeDetector(factor=2.0)
        >>> for step in range(20):
        ...     found = detector.update({'loss': 1.0}, Progress(epoch=0, iter=step + 1))
        >>> print(detector.update({'loss': 4.0}, Progress(epoch=0, iter=21))[0].message)
        Loss spike at iter 21: loss is 4.000000, its recent average 1.000000, ratio 4.00.
    """

    def __init__(self, factor: float | None = None, window: int = 50, n_std: float = 6.0,
                 warmup: int | None = None) -> None:
        if factor is not None and not 1 < factor < math.inf:
            raise ValueError(f'factor must be a number above 1, but got {factor}: it is a ratio.')
        if window < MIN_VALUES:
            raise ValueError(f'window must be at least {MIN_VALUES} values, but got {window}.')
        if not n_std > 0:
            raise ValueError(f'n_std must be above 0, but got {n_std}.')
        if warmup is None:
            warmup = window if factor is None else MIN_VALUES
        if not 1 <= warmup <= window:
            raise ValueError(f'warmup must be between 1 and window={window}, but got {warmup}.')
        self.factor = DEFAULT_FACTOR if factor is None else factor
        self.n_std = None if factor is not None else n_std
        self.window, self.warmup = window, warmup
        self._recent: dict[str, _Recent] = {}
        self._others: set[str] = set()
        # How many values in a row each term has been too high.
        self._high: dict[str, int] = {}
        self._expected_until = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the losses of one iteration; return a finding for each term that jumped."""
        findings: list[Finding] = []
        known, high, scale = self._recent, self._high, self.factor / self.window
        if progress.iter % self.window == 0:
            # What rounding adds up to in the running sums ends here.
            for every in known.values():
                every.add_up()
        for name, value in values.items():
            recent = known.get(name)
            if recent is None:
                self._begin(name, value)
                continue
            # False for NaN and both infinities, which must not enter the window either.
            if NEGATIVE_INFINITY < value <= recent.limit:
                window = recent.window
                total = recent.total + value
                if recent.full:
                    total -= window[0]
                window.append(value)
                recent.total = total
                if recent.full and total > 0:
                    recent.limit = total * scale
                else:
                    recent.set_limit()
                if high:
                    high.pop(name, None)
            elif math.isfinite(value):
                findings += self._judge(name, value, recent, progress)
                recent.add_up()
        return findings

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate; for two windows the loss may be as at the start."""
        self._expected_until = progress.iter + 2 * self.window

    def state_dict(self) -> dict[str, Any]:
        """Return the windows and counters in plain types."""
        return {'version': VERSION, 'windows': {name: list(r.window) for name, r in self._recent.items()},
                'first': {name: r.first for name, r in self._recent.items() if r.first is not None},
                'high': dict(self._high), 'expected_until': self._expected_until}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; of a longer window the newest values are kept."""
        check_version(state, type(self).__name__)
        first = state.get('first', {})
        self._recent = {name: _Recent(self, values, first.get(name)) for name, values in state['windows'].items()}
        self._high, self._expected_until = dict(state['high']), state.get('expected_until', 0)

    def _begin(self, name: str, value: float) -> None:
        if name in self._others:
            return
        if 'loss' in name.lower():
            self._recent[name] = _Recent(self, [value] if math.isfinite(value) else [])
        else:
            self._others.add(name)

    def _judge(self, name: str, value: float, recent: _Recent, progress: Progress) -> list[Finding]:
        window = recent.window
        average, limit = recent.add_up() / len(window), self.n_std or 0.0
        distance = self._distance(value, window)
        if average == 0 or distance <= limit / 2:
            # No ratio, or ordinary noise, which belongs to the baseline.
            window.append(value)
            self._high.pop(name, None)
            return []
        # A network that forgets all is found by its divergence; a single value has its noise besides.
        planned = (self.n_std is not None and progress.iter <= self._expected_until and recent.first is not None
                   and value - recent.first <= (self.factor - 1) * abs(recent.first))
        in_a_row = self._high[name] = self._high.get(name, 0) + 1
        if in_a_row < self.window:
            if distance <= limit and in_a_row < RUN:
                return []
            lone = self.n_std is not None and in_a_row < RUN and distance <= ENORMOUS * limit
            return [_spike(name, value, average, 'info' if lone or planned else 'warning', planned, progress)]
        del self._high[name]
        window.clear()
        return [_level(name, value, average, self.window, planned, progress)]

    def _distance(self, value: float, window: deque[float]) -> float:
        if self.n_std is None:
            return math.inf
        # The window holds no outliers, so a value that it tops is none; this spares noisy terms the sorting.
        return 0.0 if value <= max(window) else robust_distance(value, window)


class _Recent:
    """The last values of a term, their sum, and up to where a value is no rise worth a look."""

    __slots__ = ('window', 'total', 'limit', 'full', 'first', 'warmup', 'factor')

    def __init__(self, of: SpikeDetector, values: Iterable[float] = (), first: float | None = None) -> None:
        self.window = deque(values, maxlen=of.window)
        # The average of the first full window.
        self.first = first
        self.warmup, self.factor = of.warmup, of.factor
        self.add_up()

    def add_up(self) -> float:
        """Sum the window anew."""
        self.total = sum(self.window)
        self.set_limit()
        return self.total

    def set_limit(self) -> None:
        """Set the limit for the values that there are."""
        n = len(self.window)
        self.full = n == self.window.maxlen
        average = self.total / n if n else 0.0
        if self.full and self.first is None:
            self.first = average
        self.limit = average + (self.factor - 1) * abs(average) if n >= self.warmup else LARGEST


def robust_distance(value: float, window: Sequence[float]) -> float:
    """How many robust standard deviations a value lies above the median of others.

    Losses are positive and their noise is multiplicative, so positive values
    are compared on a logarithmic scale; otherwise a skewed but ordinary noise
    would seem far out. A term that is zero most of the time has no scale to
    judge by: nothing is far from it.

    Args:
        value (float): The value to judge, finite.
        window (Sequence[float]): Finite values before it, at least one.

    Returns:
        float: The distance; negative below the median, infinite above values
        that are all alike.

    Source: median absolute deviation, Hampel (1974), The influence curve and
    its role in robust estimation.

    Example:
        >>> window = [1.0, 1.1, 0.9, 1.2, 1.0]
        >>> [round(robust_distance(value, window), 1) for value in (1.2, 8.0)]
        [1.3, 14.7]
    """
    ordered = sorted(window)
    if median_of_sorted(ordered) == 0:
        return 0.0
    if value > 0 and ordered[0] > 0:
        ordered, value = list(map(math.log, ordered)), math.log(value)
    center = median_of_sorted(ordered)
    deviation = median_of_sorted(sorted([abs(v - center) for v in ordered]))
    if deviation == 0:
        return math.inf if value > center else 0.0
    return (value - center) / (MAD_TO_STD * deviation)


def _spike(name: str, value: float, average: float, severity: Severity, planned: bool,
           progress: Progress) -> Finding:
    # For a positive average this is value / average; it keeps its meaning for a negative one.
    ratio = 1 + (value - average) / abs(average)
    return Finding(
        'loss_spike', severity, name,
        f'Loss spike at iter {progress.iter}: {name} is {value:.6f}, its recent average {average:.6f}, '
        f'ratio {ratio:.2f}{AFTER_RISE if planned else ""}.',
        progress, ratio, {'current': value, 'average': average, 'ratio': ratio})


def _level(name: str, value: float, average: float, window: int, planned: bool, progress: Progress) -> Finding:
    ratio = 1 + (value - average) / abs(average)
    return Finding(
        'loss_level', 'info' if planned else 'error', name,
        f'Loss stays high at iter {progress.iter}: {name} has been far above its earlier average '
        f'{average:.6f} for {window} iterations and is {value:.6f} now (ratio {ratio:.2f})'
        f'{AFTER_RISE if planned else ""}. From here on it '
        'is compared with this new level.',
        progress, ratio, {'current': value, 'average': average, 'ratio': ratio, 'iterations': float(window)})
