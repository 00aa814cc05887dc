"""Finds memory that grows steadily: a leak."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from mmckpt.monitor.blocks import BLOCK_ITERS
from mmckpt.monitor.finding import Finding
from mmckpt.monitor.trend import slope, steadiness
from mmckpt.progress import Progress

STEADY = 0.8
MEBI = 1 << 20


class MemoryGrowthDetector:
    """Fires where memory has grown all through a window, and goes on to grow at its end.

    Memory that settles (caches, workspaces, the first validation) grows in a
    few steps and then stands still: that is no leak. A new process begins
    anew, so it keeps no state over a resume.

    Args:
        window (int): Measurements, 50 iterations apart; at least 8. Defaults to 12.
        megabytes (float): Least growth over the window, in MiB. Defaults to 64.
        share (float): Least growth over the window, as a share of what there
            was. Defaults to 0.05.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = MemoryGrowthDetector(window=8)
        >>> for step in range(1, 9):
        ...     found = detector.update({'memory': (1000 + 50 * step) * 2 ** 20}, Progress(0, 50 * step))
        >>> print(found[0].message)
        Memory grows steadily at iter 400: by 1.00 MiB an iteration, to 1400 MiB.
    """

    def __init__(self, window: int = 12, megabytes: float = 64.0, share: float = 0.05) -> None:
        if window < 8:
            raise ValueError(f'window must be at least 8 measurements, but got {window}.')
        if not (megabytes >= 0 and share >= 0):
            raise ValueError(f'megabytes and share must be at least 0, but got {megabytes} and {share}.')
        self.megabytes, self.share = megabytes, share
        self._window = window
        self._samples: dict[str, deque[float]] = {}

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the bytes in use by name: ``memory`` of the process, ``gpu_memory``, ``available``."""
        findings = []
        for name in ('memory', 'gpu_memory'):
            if name in values:
                samples = self._samples.setdefault(name, deque(maxlen=self._window))
                samples.append(values[name])
                if len(samples) == self._window and self._leaks(list(samples)):
                    findings.append(self._finding(name, list(samples), values.get('available'), progress))
        return findings

    def _leaks(self, samples: list[float]) -> bool:
        growth = samples[-1] - samples[0]
        if growth < self.megabytes * MEBI or growth < self.share * samples[0]:
            return False
        # The last third must bring its share (a half of it will do): else it is settling.
        third = len(samples) // 3
        late = samples[-1] - samples[-1 - third]
        return steadiness(samples) > STEADY and late > 0.5 * growth * third / (len(samples) - 1)

    def _finding(self, name: str, samples: list[float], available: float | None, progress: Progress) -> Finding:
        rate = slope(samples) / BLOCK_ITERS
        text = (f'{"Memory" if name == "memory" else "GPU memory"} grows steadily at iter {progress.iter}: by '
                f'{rate / MEBI:.2f} MiB an iteration, to {samples[-1] / MEBI:.0f} MiB')
        numbers = {'bytes': samples[-1], 'bytes_an_iter': rate}
        if name == 'memory' and available is not None and rate > 0:
            numbers['iters_left'] = available / rate
            text += f'; what is free lasts for about {numbers["iters_left"]:.0f} more iterations'
        return Finding('memory_growth', 'warning', name, text + '.', progress, samples[-1], numbers)
