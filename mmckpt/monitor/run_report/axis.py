"""Scales, ticks and numbers of the charts; ``report.js`` has the same ones for zooming."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels.

    Args:
        low (float): Smallest value shown.
        high (float): Largest value shown, larger than ``low``.
        start (float): Pixel of ``low``.
        stop (float): Pixel of ``high``.
        log (bool): Whether it is logarithmic.

    Example:
        >>> Axis(0, 10, 100, 200).at(5), Axis(1, 100, 0, 80, log=True).at(10)
        (150.0, 40.0)
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, about: int) -> list[float]:
        """Return round values inside the axis."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, about)


def wants_log(values: Iterable[float], ratio: float) -> bool:
    """Tell whether finite values are all positive, and the largest is so many times as large as most.

    Example:
        >>> wants_log([50.0, 2.0, 1.0], 10), wants_log([3.0, 2.0, 0.001], 10), wants_log([50.0, 2.0, 0.0], 10)
        (True, False, False)
    """
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > ratio * statistics.median(finite)


def bounds(values: Iterable[float], log: bool, zero: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows some values with a little room.

    Args:
        values (Iterable[float]): What to show.
        log (bool): Whether the axis is logarithmic.
        zero (bool): Whether it begins at 0 where no value is negative. Defaults to False.

    Example:
        >>> bounds([2.0, 10.0], log=False), bounds([], log=False), bounds([3.0, 3.0], log=False)
        ((0.0, 10.5), (0.0, 1.0), (2.85, 3.15))
    """
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        room = (high / low) ** 0.05 if high > low else 1.1
        return low / room, high * room
    if low == high and not (zero and low > 0):
        room = abs(low) * 0.05 or 1.0
        return low - room, high + room
    # A quantity that comes near 0 is shown from 0 on.
    bottom = 0.0 if 0 <= low <= (high if zero else 0.35 * high) else low - 0.05 * (high - low)
    return bottom, high + 0.05 * (high - bottom)


def linear_ticks(low: float, high: float, about: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten.

    Example:
        >>> linear_ticks(0, 352, 5)
        [0.0, 100.0, 200.0, 300.0]
    """
    step = tick_step(low, high, about)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_step(low: float, high: float, about: int) -> float:
    """Return the distance of about so many ticks."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    return next((m * power for m in (1, 2, 5) if m * power >= rough * 0.999), 10 * power)


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, with their multiples by 2 and 5 where there are few.

    Example:
        >>> log_ticks(3, 90), log_ticks(1e-4, 1e3)
        ([5.0, 10.0, 20.0, 50.0], [0.0001, 0.01, 1.0, 100.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    stride = max(1, math.ceil((last - first) / 5))
    found = [factor * 10.0 ** power for power in range(first, last + 1, stride) for factor in factors]
    return [value for value in found if low <= value <= high]


def shown(value: float) -> str:
    """Return a number in few characters: four digits that count, large ones with a unit.

    Example:
        >>> [shown(v) for v in (0, 0.00123456, 12.3456, 12345, 2500000, 1e-7, float('nan'))]
        ['0', '0.001235', '12.35', '12.35k', '2.5M', '1e-7', 'nan']
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        mantissa, power = f'{value:.3e}'.split('e')
        return f"{_trim(mantissa)}e{int(power)}"
    for unit, factor in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if size >= factor and (factor > 1e3 or size >= 1e4):
            return _trim(f'{value / factor:.4g}') + unit
    return _trim(f'{value:.{max(0, 3 - _magnitude(size))}f}')


def _magnitude(size: float) -> int:
    return math.floor(math.log10(size)) if size else 0


def _trim(text: str) -> str:
    return text.rstrip('0').rstrip('.') if '.' in text else text
