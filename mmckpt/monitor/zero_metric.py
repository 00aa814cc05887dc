"""Finds a validation metric that stays at exactly 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from mmckpt.monitor.finding import Finding, where
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress


class ZeroMetricDetector:
    """Fires where a metric of which more is better is exactly 0 in several validations in a row.

    Args:
        validations (int): How many; at least 1. Defaults to 5.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for a
            metric; only those with ``'greater'`` are watched.

    Raises:
        ValueError: If ``validations`` is out of its range.

    Example:
        >>> detector = ZeroMetricDetector(validations=2, rule_of=lambda name: 'greater')
        >>> for epoch in (1, 2):
        ...     found = detector.update({'coco/AP': 0.0}, Progress(epoch, 10 * epoch))
        >>> print(found[0].message)
        Metric at zero at epoch 2, iter 20: coco/AP has been exactly 0 in all of the 2 validations.
    """

    def __init__(self, validations: int = 5, rule_of: Callable[[str], str | None] = lambda name: None) -> None:
        if validations < 1:
            raise ValueError(f'validations must be at least 1, but got {validations}.')
        self.validations = validations
        self._rule_of = rule_of
        self._zeros: dict[str, int] = {}
        self._was_above: dict[str, bool] = {}

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the metrics of one validation; return a finding for each that stays at 0."""
        findings = []
        for name, value in values.items():
            if self._rule_of(name) != 'greater':
                continue
            self._zeros[name] = self._zeros.get(name, 0) + 1 if value == 0 else 0
            self._was_above[name] = self._was_above.get(name, False) or value > 0
            if self._zeros[name] >= self.validations:
                findings.append(self._finding(name, progress))
        return findings

    def state_dict(self) -> dict[str, Any]:
        """Return the counters in plain types."""
        return {'version': VERSION, 'zeros': dict(self._zeros), 'was_above': dict(self._was_above)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._zeros, self._was_above = dict(state['zeros']), dict(state['was_above'])

    def _finding(self, name: str, progress: Progress) -> Finding:
        zeros = self._zeros[name]
        since = f'the last {zeros}' if self._was_above[name] else f'all of the {zeros}'
        return Finding(
            'metric_zero', 'warning', name,
            f'Metric at zero at {where(progress)}: {name} has been exactly 0 in {since} validations.',
            progress, 0.0, {'validations': float(zeros)})
