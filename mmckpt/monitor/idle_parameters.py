"""Finds parameters that want a gradient and get none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.finding import Finding
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

# Names in a message; the numbers hold the count.
SHOWN = 5


class IdleParametersDetector:
    """Fires for parameters that had no gradient in any of some iterations; once for each.

    Args:
        iters (int): Iterations in a row that are looked at; at least 1.
            Defaults to 20.
        interval (int): Iterations between two looks; not below ``iters``. Defaults
            to 2000.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = IdleParametersDetector()
        >>> print(detector.update({'head.weight': 0.0, 'body.weight': 20.0}, Progress(0, 20))[0].message)
        Parameters without gradient at iter 20: 1 of 2 had none in 20 iterations: head.weight.
    """

    def __init__(self, iters: int = 20, interval: int = 2000) -> None:
        if iters < 1:
            raise ValueError(f'iters must be at least 1, but got {iters}.')
        if interval < iters:
            raise ValueError(f'interval must be at least iters={iters}, but got {interval}.')
        self.iters, self.interval = iters, interval
        self._said: set[str] = set()

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take how many gradients each parameter that requires one had; return a finding for new idle ones."""
        idle = [name for name, count in values.items() if count == 0]
        new = [name for name in idle if name not in self._said]
        self._said = set(idle)
        if not new:
            return []
        names = ', '.join(new[:SHOWN]) + (', ...' if len(new) > SHOWN else '')
        return [Finding(
            'idle_parameters', 'warning', new[0],
            f'Parameters without gradient at iter {progress.iter}: {len(idle)} of {len(values)} had none in '
            f'{self.iters} iterations: {names}.',
            progress, float(len(idle)), {'idle': float(len(idle)), 'all': float(len(values))})]

    def state_dict(self) -> dict[str, Any]:
        """Return the names that were said, in plain types."""
        return {'version': VERSION, 'said': sorted(self._said)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._said = set(state['said'])
