"""Finds a GPU that mostly waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from mmckpt.monitor.blocks import median_of_sorted
from mmckpt.monitor.finding import Finding
from mmckpt.progress import Progress


class GpuIdleDetector:
    """Says as an info that the GPU is used little; keeps no state over a resume.

    A small model cannot fill a GPU, so this is never a warning.

    Args:
        below (float): Utilisation in percent under which it is idle. Defaults to 30.
        window (int): Measurements whose median counts; at least 1. Defaults to 20.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = GpuIdleDetector(window=2)
        >>> for step in (50, 100):
        ...     found = detector.update({'gpu_utilization': 12.0}, Progress(0, step))
        >>> print(found[0].message)
        Idle GPU at iter 100: it is used to 12 % (median of 2 looks).
    """

    def __init__(self, below: float = 30.0, window: int = 20) -> None:
        if not 0 < below <= 100:
            raise ValueError(f'below must be a percentage, but got {below}.')
        if window < 1:
            raise ValueError(f'window must be at least 1, but got {window}.')
        self.below = below
        self._samples: deque[float] = deque(maxlen=window)

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take ``gpu_utilization`` in percent, where it is known."""
        if 'gpu_utilization' not in values:
            return []
        self._samples.append(values['gpu_utilization'])
        used = median_of_sorted(sorted(self._samples))
        if len(self._samples) < (self._samples.maxlen or 0) or used >= self.below:
            return []
        return [Finding(
            'gpu_idle', 'info', 'gpu_utilization',
            f'Idle GPU at iter {progress.iter}: it is used to {used:.0f} % (median of {len(self._samples)} looks).',
            progress, 0.0, {'utilization': used})]
