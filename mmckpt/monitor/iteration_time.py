"""Finds a data loader that holds training up, and iterations that take longer and longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from mmckpt.monitor.blocks import BLOCK_ITERS, median_of_sorted
from mmckpt.monitor.finding import Finding
from mmckpt.monitor.trend import steadiness
from mmckpt.progress import Progress

# A steady rise has a value near 1 here, a single step (another process, a warm machine) about 0.5.
STEADY = 0.75


class SlowDataDetector:
    """Fires where most of the time of an iteration is spent waiting for data.

    A new process meets other disks and neighbours, so it keeps no state over a resume.

    Args:
        share (float): Share of the iteration time above which waiting is too
            long, between 0 and 1. Defaults to 0.5.
        least (float): Waiting times below this, in seconds, are never too
            long. Defaults to 0.03.
        blocks (int): Blocks of 50 iterations in a row. Defaults to 2.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = SlowDataDetector(blocks=1)
        >>> print(detector.update({'time': 0.2, 'data_time': 0.15}, Progress(0, 50))[0].message)
        Slow data loader at iter 50: 75 % of an iteration is waiting for data (0.150 s of 0.200 s).
    """

    def __init__(self, share: float = 0.5, least: float = 0.03, blocks: int = 2) -> None:
        if not 0 < share < 1:
            raise ValueError(f'share must be between 0 and 1, but got {share}.')
        if blocks < 1:
            raise ValueError(f'blocks must be at least 1, but got {blocks}.')
        self.share, self.least, self.blocks = share, least, blocks
        self._slow = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the median ``time`` and ``data_time`` of a block, in seconds."""
        whole, data = values['time'], values['data_time']
        slow = data > self.least and data > self.share * whole
        self._slow = self._slow + 1 if slow else 0
        if self._slow < self.blocks:
            return []
        return [Finding(
            'slow_data', 'warning', 'data_time',
            f'Slow data loader at iter {progress.iter}: {100 * data / whole:.0f} % of an iteration is waiting for '
            f'data ({data:.3f} s of {whole:.3f} s).', progress, data, {'time': whole, 'data_time': data})]


class SlowingDetector:
    """Fires where iterations take longer and longer; keeps no state over a resume.

    A steady rise is a warning (something grows with the run); a single step,
    which another process on the machine also makes, is an info.

    Args:
        factor (float): Ratio of the newest to the oldest times in the window;
            above 1. Defaults to 1.5.
        window (int): Blocks of 50 iterations; at least 8. Defaults to 20.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = SlowingDetector(window=8)
        >>> for block in range(1, 9):
        ...     found = detector.update({'time': 0.1 * block, 'data_time': 0.0}, Progress(0, 50 * block))
        >>> print(found[0].message)
        Iterations take longer and longer at iter 400: 0.700 s now, 0.200 s 400 iterations ago.
    """

    def __init__(self, factor: float = 1.5, window: int = 20) -> None:
        if not factor > 1:
            raise ValueError(f'factor must be above 1, but got {factor}: it is a ratio.')
        if window < 8:
            raise ValueError(f'window must be at least 8 blocks, but got {window}.')
        self.factor = factor
        self._times: deque[float] = deque(maxlen=window)

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the median ``time`` of a block, in seconds."""
        times = self._times
        times.append(values['time'])
        if len(times) < (times.maxlen or 0):
            return []
        part = max(3, len(times) // 4)
        ordered = list(times)
        before, now = median_of_sorted(sorted(ordered[:part])), median_of_sorted(sorted(ordered[-part:]))
        if now <= self.factor * before:
            return []
        steady = steadiness(ordered) > STEADY
        how = 'longer and longer' if steady else 'longer than before'
        return [Finding(
            'slowing', 'warning' if steady else 'info', 'time',
            f'Iterations take {how} at iter {progress.iter}: {now:.3f} s now, {before:.3f} s '
            f'{len(times) * BLOCK_ITERS} iterations ago.',
            progress, now / before, {'now': now, 'before': before})]
