"""Finds a learning rate that is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.finding import Finding
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress


class LearningRateDetector:
    """Fires where the learning rate of every parameter group is 0 several times in a row.

    Single groups at 0 are a way to freeze parameters, and a schedule may
    touch 0 in its first or last iteration: neither counts.

    Args:
        probes (int): How many times in a row, 50 iterations apart; at least
            1. Defaults to 2.

    Raises:
        ValueError: If ``probes`` is out of its range.

    Example:
        >>> detector = LearningRateDetector(probes=1)
        >>> print(detector.update({'lr': 0.0}, Progress(0, 50))[0].message)
        Learning rate 0 at iter 50: no parameter is updated (seen 1 times, 50 iterations apart).
    """

    def __init__(self, probes: int = 2) -> None:
        if probes < 1:
            raise ValueError(f'probes must be at least 1, but got {probes}.')
        self.probes = probes
        self._zeros = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the largest learning rate of all groups as ``lr``; return a finding if it stays at 0."""
        if 'lr' not in values:
            return []
        self._zeros = self._zeros + 1 if values['lr'] == 0 else 0
        if self._zeros < self.probes:
            return []
        return [Finding(
            'lr_zero', 'warning', 'lr',
            f'Learning rate 0 at iter {progress.iter}: no parameter is updated (seen {self._zeros} times, '
            '50 iterations apart).', progress, 0.0, {'lr': 0.0})]

    def state_dict(self) -> dict[str, Any]:
        """Return the counter in plain types."""
        return {'version': VERSION, 'zeros': self._zeros}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._zeros = state['zeros']
