"""Curves in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = '▁▂▃▄▅▆▇█'
PLAIN = '_.-:=+*#'


def sparkline(values: Sequence[float], width: int, blocks: str = BLOCKS, log_from: float = math.inf) -> str:
    """Draw a curve with one character a stretch, as high as the mean of its values.

    Args:
        values (Sequence[float]): The curve.
        width (int): Characters at most.
        blocks (str): Characters from low to high. Defaults to eight blocks.
        log_from (float): Positive values that span this ratio are drawn by
            their logarithm. Defaults to infinity, never.

    Returns:
        str: Where a stretch holds a value that is not finite, there is an ``x``.

    Example:
        >>> sparkline([8, 4, 2, 1, float('nan')], width=5, log_from=5)
        '█▆▃▁x'
    """
    values = list(values)
    count = min(width, len(values))
    if count < 1:
        return ''
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [_mean(values[a:b]) for a, b in zip(edges, edges[1:])]
    finite = [mean for mean in means if mean is not None]
    if not finite:
        return 'x' * count
    low, high = min(finite), max(finite)
    log = low > 0 and high > log_from * low
    return ''.join('x' if mean is None else blocks[_height(mean, low, high, log, len(blocks))] for mean in means)


def _mean(values: Sequence[float]) -> float | None:
    if not all(map(math.isfinite, values)):
        return None
    return sum(values) / len(values)


def _height(value: float, low: float, high: float, log: bool, steps: int) -> int:
    if high == low:
        return 0
    share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    return min(steps - 1, int(share * steps + 1e-9))
