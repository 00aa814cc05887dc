"""What counts as a score, and which of two is better by a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.policy.selection.rules import Rule


def is_better(score: float | None, best: float | None, rule: Rule, min_delta: float = 0.0) -> bool:
    """Return whether ``score`` beats ``best``; a tie does not, and NaN and None never do.

    Args:
        score (float, optional): The new score; None means that there is none.
        best (float, optional): The best so far; None or NaN is beaten by any
            number.
        rule (str): ``'greater'`` or ``'less'``.
        min_delta (float): By how much ``best`` must be exceeded, at least 0.
            Defaults to 0.0.

    Example:
        >>> is_better(0.0, None, 'greater'), is_better(1.0, 1.0, 'less')
        (True, False)
        >>> is_better(float('nan'), None, 'less')
        False
    """
    if score is None or math.isnan(score):
        return False
    if best is None or math.isnan(best):
        return True
    return score > best + min_delta if rule == 'greater' else score < best - min_delta


def as_score(value: Any) -> float | None:
    """Return a metric's value as a float; None stays None, and 0.0 is a value.

    Args:
        value (Any): A number, or anything with ``.item()`` that holds a single
            number: NumPy scalars, tensors of one element on any device.

    Raises:
        ValueError: If it is not one number.

    Example:
        >>> as_score(3), as_score(0.0), as_score(None)
        (3.0, 0.0, None)
    """
    if value is None:
        return None
    try:
        number = value.item() if hasattr(value, 'item') else value
        if isinstance(number, str):
            raise TypeError('text')
        return float(number)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'Expected a metric that is one number, but got {type(value).__name__}: '
                         f'{value!r:.100}. Let the metric return a float.') from error


def scalar_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Keep the metrics that are one number, as floats.

    Example:
        >>> scalar_metrics({'AP': 0.5, 'per_class': [1, 2], 'PCK': None})
        {'AP': 0.5}
    """
    scores = {}
    for name, value in (metrics or {}).items():
        try:
            score = as_score(value)
        except ValueError:
            continue
        if score is not None:
            scores[name] = score
    return scores
