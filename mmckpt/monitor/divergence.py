"""Finds a training loss that runs away: a jump that ends in NaN, or a rise that lasts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.blocks import BLOCK_ITERS, median_of_sorted
from mmckpt.monitor.finding import Finding
from mmckpt.monitor.planned_rise import SHARE
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

# A rise counts only if it gives back this share of what the training had gained: at a loss near zero, twice
# the best level is still noise.
GIVEN_BACK = 0.25
# A rise counts only if it is this many standard deviations of a single value: that is more than the medians of
# blocks differ by chance, where the loss lies around zero and no ratio says anything.
NOISE = 1.5
# Blocks in which the loss settles after a planned rise of the learning rate.
SETTLING = 4
# How far apart the quartiles of normal noise are, in standard deviations.
QUARTILES = 1.349
# Values before a NaN that say whether the loss had jumped.
TAIL = 5


class DivergenceDetector:
    """Fires where the loss is NaN after it had risen, or stays above its best level.

    The levels are medians over 50 iterations, so that neither outliers nor
    the noise of small batches count. The loss has risen where it is above
    ``factor`` times its best level, has lost a quarter of what it had gained
    since the start *and* is above its noise at the best level. A rise that goes above the level of the start is
    an error, another one a warning. After a planned rise of the learning rate
    three quarters of the gain must be lost, until the loss has come down again.

    Args:
        factor (float): Ratio of the present to the best level, above 1.
            Defaults to 2.0.
        blocks (int): Blocks of 50 iterations in a row for which a rise must
            last; at least 1. Defaults to 3.
        term (str): The scalar to watch. Defaults to ``'loss'``, the total.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = DivergenceDetector()
        >>> curve = [1.0] * 100 + [5.0] * 5 + [float('nan')]
        >>> found = [detector.update({'loss': value}, Progress(0, step)) for step, value in enumerate(curve, 1)]
        >>> print(found[-1][0].message)
        Divergence at iter 106: loss rose to 5.000000, 5.0 times its best level 1.000000 (iter 50), and is nan now.
    """

    def __init__(self, factor: float = 2.0, blocks: int = 3, term: str = 'loss') -> None:
        if not 1 < factor < math.inf:
            raise ValueError(f'factor must be a number above 1, but got {factor}: it is a ratio.')
        if blocks < 1:
            raise ValueError(f'blocks must be at least 1, but got {blocks}.')
        self.factor, self.blocks, self.term = factor, blocks, term
        self._values: list[float] = []
        self._first: float | None = None
        self._best = math.inf
        self._best_iter = 0
        # Standard deviation of the values in the block of the best level.
        self._noise = 0.0
        self._risen = 0
        self._broken = False
        # Blocks for which more may be given back at least, because the learning rate was raised as planned; the
        # last one goes on until the loss has come down again.
        self._settling = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the losses of one iteration; return a finding if the total has run away."""
        value = values.get(self.term)
        if value is None:
            return []
        if -math.inf < value < math.inf:
            self._broken = False
            self._values.append(value)
            return self._end_of_block(progress) if len(self._values) >= BLOCK_ITERS else []
        tail = sorted(self._values[-TAIL:])
        if self._broken or not tail or not self._is_risen(median_of_sorted(tail)):
            return []
        # Said once: from here on every value is NaN.
        self._broken = True
        return [self._ended_in_nan(tail[-1], value, progress)]

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate."""
        self._settling = SETTLING

    def state_dict(self) -> dict[str, Any]:
        """Return the levels and the values of the block at hand, in plain types."""
        return {'version': VERSION, 'values': list(self._values), 'first': self._first, 'best': self._best,
                'best_iter': self._best_iter, 'noise': self._noise, 'risen': self._risen, 'broken': self._broken,
                'settling': self._settling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._values, self._first, self._best = list(state['values']), state['first'], state['best']
        self._best_iter, self._risen, self._broken = state['best_iter'], state['risen'], state['broken']
        self._noise, self._settling = state.get('noise', 0.0), state.get('settling', 0)

    def _end_of_block(self, progress: Progress) -> list[Finding]:
        ordered = sorted(self._values)
        level = median_of_sorted(ordered)
        self._values.clear()
        if self._first is None:
            self._first = level
        if level < self._best:
            self._best, self._best_iter = level, progress.iter
            # Half of the values lie between the quartiles; robust against outliers.
            self._noise = (ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4]) / QUARTILES
        self._risen = self._risen + 1 if self._is_risen(level) else 0
        if self._settling > 1 or not self._is_above(level, GIVEN_BACK):
            self._settling = max(0, self._settling - 1)
        return [self._sustained(level, progress)] if self._risen >= self.blocks else []

    def _is_risen(self, level: float) -> bool:
        return self._is_above(level, SHARE if self._settling else GIVEN_BACK)

    def _is_above(self, level: float, share: float) -> bool:
        if self._first is None:
            return False
        rise = level - self._best
        return rise > max((self.factor - 1) * abs(self._best), share * (self._first - self._best),
                          NOISE * self._noise)

    def _ended_in_nan(self, peak: float, value: float, progress: Progress) -> Finding:
        ratio = _ratio(peak, self._best)
        return Finding(
            'divergence', 'error', self.term,
            f'Divergence at iter {progress.iter}: {self.term} rose to {peak:.6f}, {ratio:.1f} times its best '
            f'level {self._best:.6f} (iter {self._best_iter}), and is {value} now.',
            progress, ratio, {'peak': peak, 'best': self._best, 'ratio': ratio,
                              'start': self._start(progress, len(self._values))})

    def _sustained(self, level: float, progress: Progress) -> Finding:
        ratio = _ratio(level, self._best)
        worse = self._first is not None and level > self._first
        start = ', above where the training began' if worse else ''
        return Finding(
            'divergence', 'error' if worse else 'warning', self.term,
            f'Divergence at iter {progress.iter}: {self.term} has risen for {self._risen * BLOCK_ITERS} iterations '
            f'and is {level:.6f}, {ratio:.1f} times its best level {self._best:.6f} (iter {self._best_iter}){start}.',
            progress, ratio, {'level': level, 'best': self._best, 'ratio': ratio,
                              'iterations': float(self._risen * BLOCK_ITERS), 'start': self._start(progress, 0)})

    def _start(self, progress: Progress, since_block: int) -> float:
        """The first iteration of the last block that had not risen: the loss may have jumped in its second half."""
        return float(max(1, progress.iter - since_block - (self._risen + 1) * BLOCK_ITERS + 1))


def _ratio(level: float, best: float) -> float:
    return 1 + (level - best) / abs(best) if best else math.inf
