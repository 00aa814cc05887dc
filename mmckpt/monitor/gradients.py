"""Finds gradients that explode or vanish, from the norm that clipping computes anyway."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.blocks import Block, median_of_sorted
from mmckpt.monitor.finding import Finding
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

# Blocks that make up the usual level.
USUAL = 20
# A small gradient is a fault only while the loss is still above this share of its first level.
UNTRAINED = 0.5


class GradientDetector:
    """Fires where the gradient norm of a block of iterations leaves its usual range.

    It reads ``grad_norm``, which MMEngine logs only with
    ``optim_wrapper=dict(clip_grad=dict(max_norm=...))``; without it there is
    nothing to watch. Norms are those before clipping, as medians over 50
    iterations. A vanishing norm counts only while the loss is above half of
    its first level: in a model that fits its data, small is right.

    Args:
        explosion (float): Ratio to the usual level (median of the last 20
            blocks) above which it explodes; above 1. Defaults to 10.0.
        vanishing (float): Ratio to the first level below which it vanishes;
            below 1. Defaults to 1e-4.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from mmckpt.monitor.blocks import summarise
        >>> detector = GradientDetector()
        >>> for norm in (1.0, 1.2, 50.0):
        ...     found = detector.update({'grad_norm': summarise([norm])}, Progress(0, 150))
        >>> print(found[0].message)
        Gradient explosion at iter 150: the norm is 50, its usual level 1.1, ratio 45.5.
    """

    def __init__(self, explosion: float = 10.0, vanishing: float = 1e-4) -> None:
        if not explosion > 1:
            raise ValueError(f'explosion must be above 1, but got {explosion}: it is a ratio.')
        if not 0 <= vanishing < 1:
            raise ValueError(f'vanishing must be at least 0 and below 1, but got {vanishing}: it is a ratio.')
        self.explosion, self.vanishing = explosion, vanishing
        self._levels: deque[float] = deque(maxlen=USUAL)
        self._first: float | None = None
        self._first_loss: float | None = None

    def update(self, values: Mapping[str, Block], progress: Progress) -> list[Finding]:
        """Take the blocks of all scalars; return a finding if the gradients left their range."""
        block, loss = values.get('grad_norm'), values.get('loss')
        if block is None or not block.finite:
            return []
        level = block.median
        if self._first is None:
            self._first, self._first_loss = level, loss.median if loss else None
        findings = [*self._exploding(level, progress), *self._vanishing(level, loss, progress)]
        # An explosion must not become the usual.
        if not findings:
            self._levels.append(level)
        return findings

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate: gradients may be again what they were at first."""
        if self._first is not None:
            self._levels = deque([self._first] * 3, maxlen=USUAL)

    def state_dict(self) -> dict[str, Any]:
        """Return the levels in plain types."""
        return {'version': VERSION, 'levels': list(self._levels), 'first': self._first,
                'first_loss': self._first_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._levels = deque(state['levels'], maxlen=USUAL)
        self._first, self._first_loss = state['first'], state['first_loss']

    def _exploding(self, level: float, progress: Progress) -> list[Finding]:
        if len(self._levels) < 2:
            return []
        usual = median_of_sorted(sorted(self._levels))
        if level <= self.explosion * usual or usual == 0:
            return []
        ratio = level / usual
        return [Finding(
            'gradient_explosion', 'warning', 'grad_norm',
            f'Gradient explosion at iter {progress.iter}: the norm is {level:.4g}, its usual level {usual:.4g}, '
            f'ratio {ratio:.1f}.', progress, ratio, {'current': level, 'usual': usual, 'ratio': ratio})]

    def _vanishing(self, level: float, loss: Block | None, progress: Progress) -> list[Finding]:
        first = self._first or 0.0
        if level > self.vanishing * first or loss is None or not loss.finite or self._first_loss is None:
            return []
        if math.isnan(self._first_loss) or loss.median <= UNTRAINED * self._first_loss:
            return []
        return [Finding(
            'gradient_vanishing', 'warning', 'grad_norm',
            f'Vanishing gradients at iter {progress.iter}: the norm is {level:.4g}, at the start it was {first:.4g}, '
            f'while the loss is still {loss.median:.6f} (it began at {self._first_loss:.6f}).',
            progress, 0.0, {'current': level, 'first': first, 'loss': loss.median})]
