"""Finds a validation metric that falls well under its best."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

from mmckpt.monitor.finding import Finding, Severity, where
from mmckpt.monitor.planned_rise import is_expected
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

Rule = Literal['greater', 'less']
# Validations that tell the usual change, validations for which a drop must last, and how many times the usual
# change it must be.
RECENT = 20
LASTING = 3
FAR = 3.0
# So little may also be a percentage, at the start of a training.
LOW = 0.5


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that is negative, infinite or NaN with a ``ValueError``."""
    if threshold is not None and not 0 <= threshold < math.inf:
        raise ValueError(f'threshold must be a number of at least 0, but got {threshold}.')


class PerformanceDropDetector:
    """Fires at a validation where a metric is worse than its best by more than a threshold.

    With an explicit ``threshold`` that alone decides, and each finding is a
    warning. By default, since small validation sets are noisy, a drop is only
    an info unless it takes a third of the best and twice the threshold away,
    or is there in three validations in a row and far above the usual change
    from one to the next. It stays an info in the first three validations
    below 0.5, which may be percentages, and after a planned rise of the
    learning rate, until the metric has recovered or lost three quarters of
    its gain. NaN is not judged, and neither NaN nor infinity becomes the best.

    Args:
        metric (str): Name of the metric, as the validation gives it.
        threshold (float, optional): How far under its best the metric may
            be, in units of the metric; at least 0. Defaults to None, which
            means 0.05, or 5 for a metric in percent: one that has been above 1,
            or whose sister has (``top5`` for ``top1``, ``AP50`` for ``AP``).
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
        self._first: float | None = None
        self._seen = 0
        self._in_a_row = 0
        self._is_percent = False
        # Validations for which a drop is expected at least; the last one goes on until the metric has recovered.
        self._expected = 0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the metrics of one validation; return a finding if this one has dropped."""
        value = values.get(self.metric, math.nan)
        if math.isnan(value):
            return []
        usual = self._usual_change()
        self._recent.append(value)
        self._seen += 1
        self._is_percent = self._is_percent or self._shows_percent(values)
        if self._best is None or self._under(value, self._best) < 0:
            self._in_a_row, self._expected = 0, max(0, self._expected - 1)
            if math.isfinite(value):
                self._best, self._best_at = value, progress
                self._first = value if self._first is None else self._first
            return []
        drop, allowed = self._under(value, self._best), self._allowed()
        self._in_a_row = self._in_a_row + 1 if drop > max(allowed, FAR * usual) else 0
        if self._expected > 1 or drop <= allowed:
            self._expected = max(0, self._expected - 1)
        if drop <= allowed:
            return []
        sure = self.threshold is not None or self._is_fault(drop, allowed, self._best)
        return [self._finding(value, self._best, drop, 'warning' if sure else 'info', progress)]

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate."""
        self._expected = LASTING

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and when it was reached, in plain types."""
        at = self._best_at
        return {'version': VERSION, 'best': self._best, 'best_epoch': at.epoch, 'best_iter': at.iter,
                'in_a_row': self._in_a_row, 'recent': list(self._recent), 'first': self._first,
                'seen': self._seen, 'is_percent': self._is_percent, 'expected': self._expected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._best = state['best']
        self._best_at = Progress(epoch=state['best_epoch'], iter=state['best_iter'])
        self._in_a_row = state.get('in_a_row', 0)
        self._recent = deque(state.get('recent', []), maxlen=RECENT)
        self._first, self._seen = state.get('first', self._best), state.get('seen', len(self._recent))
        self._is_percent, self._expected = state.get('is_percent', False), state.get('expected', 0)

    def _usual_change(self) -> float:
        """Change between validations that three of four do not exceed; infinite while there are too few to know."""
        recent = [value for value in self._recent if math.isfinite(value)]
        changes = sorted(abs(b - a) for a, b in zip(recent, recent[1:]))
        return changes[3 * len(changes) // 4] if len(changes) >= 3 else math.inf

    def _under(self, value: float, best: float) -> float:
        return best - value if self.rule == 'greater' else value - best

    def _allowed(self) -> float:
        if self.threshold is not None:
            return self.threshold
        return 5.0 if self._is_percent else 0.05

    def _shows_percent(self, values: Mapping[str, float]) -> bool:
        own = _stem(self.metric)
        return self.rule == 'greater' and any(1 < value < math.inf and _stem(name) == own
                                              for name, value in values.items())

    def _is_fault(self, drop: float, allowed: float, best: float) -> bool:
        gained = 0.0 if self._first is None else abs(best - self._first)
        if self._expected and is_expected(drop, gained):
            return False
        young = self._seen <= LASTING and best < LOW and not self._is_percent
        return self._in_a_row >= LASTING or (drop > 2 * allowed and drop > abs(best) / 3 and not young)

    def _finding(self, value: float, best: float, drop: float, severity: Severity, progress: Progress) -> Finding:
        return Finding(
            'performance_drop', severity, self.metric,
            f'Performance drop at {where(progress)}: {self.metric} is {value:.4f}, its best {best:.4f} '
            f'({where(self._best_at)}), drop {drop:.4f}.',
            progress, drop, {'current': value, 'best': best, 'drop': drop})


def _stem(name: str) -> str:
    """Name a metric without its k or threshold: ``'PCK@0.05'`` and ``'PCK@0.2'`` are on one scale.

    Example:
        >>> _stem('accuracy/top1') == _stem('accuracy/top5'), _stem('PSNR') == _stem('SSIM')
        (True, False)
    """
    return ''.join(filter(str.isalpha, name))
