"""Finds a validation metric that falls well under its best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from mmckpt.monitor.finding import Finding, where
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

Rule = Literal['greater', 'less']


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that is negative, infinite or NaN with a ``ValueError``."""
    if threshold is not None and not 0 <= threshold < math.inf:
        raise ValueError(f'threshold must be a number of at least 0, but got {threshold}.')


class PerformanceDropDetector:
    """Fires at a validation where a metric is worse than its best by more than a threshold.

    NaN is not judged, and neither NaN nor infinity becomes the best.

    Args:
        metric (str): Name of the metric, as the validation gives it.
        threshold (float, optional): How far under its best the metric may
            be, in units of the metric; at least 0. Defaults to None, which
            means 0.05, or 5 for a metric in percent, that is, one whose best
            is above 1.
        rule (str): ``'greater'`` or ``'less'`` is better. Defaults to
            ``'greater'``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = PerformanceDropDetector('AP', threshold=0.05)
        >>> detector.update({'AP': 0.7}, Progress(epoch=1, iter=10))
        []
        >>> print(detector.update({'AP': 0.6}, Progress(epoch=2, iter=20))[0].message)
        Performance drop at epoch 2, iter 20: AP is 0.6000, its best 0.7000 (epoch 1, iter 10), drop 0.1000.
    """

    def __init__(self, metric: str, threshold: float | None = None, rule: Rule = 'greater') -> None:
        if rule not in ('greater', 'less'):
            raise ValueError(f"rule must be 'greater' or 'less', but got {rule!r}.")
        check_threshold(threshold)
        self.metric, self.threshold, self.rule = metric, threshold, rule
        self._best: float | None = None
        self._best_at = Progress(epoch=0, iter=0)

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the metrics of one validation; return a finding if this one has dropped."""
        value = values.get(self.metric, math.nan)
        if math.isnan(value):
            return []
        if self._best is None or self._under(value, self._best) < 0:
            if math.isfinite(value):
                self._best, self._best_at = value, progress
            return []
        drop = self._under(value, self._best)
        return [self._finding(value, self._best, drop, progress)] if drop > self._allowed(self._best) else []

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and when it was reached, in plain types."""
        at = self._best_at
        return {'version': VERSION, 'best': self._best, 'best_epoch': at.epoch, 'best_iter': at.iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._best = state['best']
        self._best_at = Progress(epoch=state['best_epoch'], iter=state['best_iter'])

    def _under(self, value: float, best: float) -> float:
        return best - value if self.rule == 'greater' else value - best

    def _allowed(self, best: float) -> float:
        if self.threshold is not None:
            return self.threshold
        return 5.0 if self.rule == 'greater' and best > 1 else 0.05

    def _finding(self, value: float, best: float, drop: float, progress: Progress) -> Finding:
        return Finding(
            'performance_drop', 'warning', self.metric,
            f'Performance drop at {where(progress)}: {self.metric} is {value:.4f}, its best {best:.4f} '
            f'({where(self._best_at)}), drop {drop:.4f}.',
            progress, drop, {'current': value, 'best': best, 'drop': drop})
