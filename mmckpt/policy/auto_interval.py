"""How often to save, from what a save costs and how long an iteration takes."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

# Enough iterations for a first median, few enough to lose nothing before the first save.
FIRST_SAVE = 50
# Save times that count; few, so that the interval follows a change.
RECENT_SAVES = 5
RECENT_ITERS = 200


class AutoInterval:
    """The distance between two saves, in iterations, kept up to date.

    Without ``mtbf`` it is the smallest distance at which the time that
    training stands still stays under ``max_overhead`` of the whole. With
    ``mtbf`` it is Young's interval, ``sqrt(2 * write time * MTBF)``, which
    loses least time to saves and crashes together. Never does a save begin
    before the last one is written.

    Args:
        max_overhead (float): Largest share of the time that saving may take.
            Defaults to 0.01.
        mtbf (float, optional): Mean time between failures, in seconds.
            Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> auto = AutoInterval(max_overhead=0.01)
        >>> for _ in range(50):
        ...     auto.observe_iter(0.1)
        >>> auto.observe_save(blocked=0.5, written=2.0)
        >>> auto.interval()
        500

    Source:
        The bound on the overhead: Mohan et al., "CheckFreq: Frequent,
        fine-grained DNN checkpointing", FAST 2021. The interval from the
        failure rate: Young, "A first order approximation to the optimum
        checkpoint interval", Communications of the ACM 17(9), 1974.
    """

    def __init__(self, max_overhead: float = 0.01, mtbf: float | None = None) -> None:
        if not 0 < max_overhead < 1:
            raise ValueError(f'max_overhead must lie between 0 and 1 (0.01 is one percent), but got {max_overhead}.')
        if mtbf is not None and mtbf <= 0:
            raise ValueError(f'mtbf must be above 0 seconds, but got {mtbf}.')
        self.max_overhead = max_overhead
        self.mtbf = mtbf
        self._iters: deque[float] = deque(maxlen=RECENT_ITERS)
        self._saves: deque[tuple[float, float]] = deque(maxlen=RECENT_SAVES)

    def observe_iter(self, seconds: float) -> None:
        """Take in the duration of an iteration, without a save in it."""
        self._iters.append(seconds)

    def observe_save(self, blocked: float, written: float) -> None:
        """Take in a save.

        Args:
            blocked (float): Seconds for which training stood still.
            written (float): Seconds until the file was durable.
        """
        self._saves.append((blocked, written))

    def interval(self) -> int:
        """Return the distance to the next save, in iterations, at least 1."""
        if not self._saves or not self._iters:
            return FIRST_SAVE
        iteration = max(median(self._iters), 1e-9)
        blocked = median(save[0] for save in self._saves)
        written = max(median(save[1] for save in self._saves), blocked)
        seconds = blocked / self.max_overhead if self.mtbf is None else math.sqrt(2 * written * self.mtbf)
        return max(1, math.ceil(round(max(seconds, written) / iteration, 6)))

    def describe(self) -> str:
        """Return the interval in words, with its cost and what a crash would lose."""
        if not self._saves or not self._iters:
            return f'every {FIRST_SAVE} iterations, until the first save has been measured'
        n, iteration = self.interval(), median(self._iters)
        blocked = median(save[0] for save in self._saves)
        cost = blocked / (blocked + n * iteration)
        return (f'every {n} iterations ({n * iteration:.0f} s): a save stops training for {blocked * 1e3:.0f} ms, '
                f'{cost:.2%} of the time, and a crash loses at most {n * iteration / 60:.1f} minutes')
