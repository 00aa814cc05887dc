"""Finds NaN and infinity, and says which term had it first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.finding import Finding, Severity
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress


class NonFiniteDetector:
    """Fires for every entry that is NaN or infinite.

    The terms come before their sum ``loss`` and the gradient norm among the
    findings: these are never the cause. Where all losses are finite, another
    entry, such as an accuracy over no samples, is a warning: training does
    not depend on it.

    Example:
        >>> detector = NonFiniteDetector()
        >>> detector.update({'loss': 2.5, 'heatmap_loss': 0.5}, Progress(epoch=0, iter=1))
        []
        >>> nan = {'loss': float('nan'), 'heatmap_loss': float('nan')}
        >>> print(detector.update(nan, Progress(epoch=0, iter=2))[0].message)
        Non-finite value at iter 2: heatmap_loss is nan (it was 0.500000 at iter 1).
    """

    def __init__(self) -> None:
        self._last: Mapping[str, float] = {}
        self._last_iter = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the values of one iteration; return a finding for each that is not finite."""
        # The sum is the cheapest test, but finite numbers can have one that is not.
        if math.isfinite(sum(values.values())) or all(map(math.isfinite, values.values())):
            self._last, self._last_iter = values, progress.iter
            return []
        names = [name for name, value in values.items() if not math.isfinite(value)]
        names.sort(key=lambda name: name in ('loss', 'grad_norm'))
        sound = 'loss' in values and not any('loss' in name.lower() or name == 'grad_norm' for name in names)
        return [self._finding(name, values[name], 'warning' if sound else 'error', progress) for name in names]

    def state_dict(self) -> dict[str, Any]:
        """Return the last values that were all finite, in plain types."""
        return {'version': VERSION, 'last': dict(self._last), 'last_iter': self._last_iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._last, self._last_iter = dict(state['last']), state['last_iter']

    def _finding(self, name: str, value: float, severity: Severity, progress: Progress) -> Finding:
        if name in self._last:
            before = f'it was {self._last[name]:.6f} at iter {self._last_iter}'
        else:
            before = 'it has not been finite before'
        return Finding(
            'non_finite', severity, name,
            f'Non-finite value at iter {progress.iter}: {name} is {value} ({before}).',
            progress, 0.0, {'current': value})
