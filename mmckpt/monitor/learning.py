"""Tells a training that does nothing from one that is slow, late or done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from mmckpt.monitor.blocks import median_of_sorted
from mmckpt.monitor.trend import steadiness
from mmckpt.monitor.versioned import VERSION, check_version

TRAIN_LOSS = 'train_loss'
# What comes with the values of a round besides losses and metrics: level of the total loss in the first iterations
# and its standard error, how far the weights have moved (a share of their norm), and whether they had been trained.
FIRST_LOSS, FIRST_ERROR, WEIGHT_CHANGE, PRETRAINED = '#first_loss', '#first_error', '#weight_change', '#pretrained'
FACTS = (FIRST_LOSS, FIRST_ERROR, WEIGHT_CHANGE, PRETRAINED)
# Weights that have moved by less have not been trained; 500 steps of a cautious fine-tuning move them by 1e-3.
MOVED = 1e-5
# A gain since the start counts if it is this share of the first level, and so many times its error.
GAIN, ERRORS = 0.01, 4.0
# A slow one counts if it is as steady as this (1: each round better than all before) and this share of the level.
STEADY, SLOW = 0.5, 0.001


class Learning:
    """Gathers what shows that a training learns: weights that move, a loss that falls, a metric that improves.

    Weights that do not move learn nothing, whatever the numbers do (BN
    statistics alone can improve a metric). Weights that move and had been
    trained before may be as good as they get. All others should have improved
    the loss or a metric beyond its noise: since the start, or slowly but steadily of late.

    Args:
        rounds (int): Newest values of each loss and metric to look at, less one.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for a metric.

    Example:
        >>> learning = Learning(rounds=3, rule_of=lambda name: None)
        >>> for loss in (2.31, 2.30, 2.29, 2.28):
        ...     learning.update({'train_loss': loss})
        >>> learning.is_idle
        False
    """

    def __init__(self, rounds: int, rule_of: Callable[[str], str | None]) -> None:
        self._rounds, self._rule_of = rounds, rule_of
        self._series: dict[str, deque[float]] = {}
        # Of each loss and metric: its level at the start, and the error of that, if it is known.
        self._first: dict[str, tuple[float, float | None]] = {}
        self.weight_change: float | None = None
        self._pretrained = False

    def update(self, values: Mapping[str, float]) -> None:
        """Take the values of a round."""
        self._pretrained = self._pretrained or bool(values.get(PRETRAINED))
        if WEIGHT_CHANGE in values:
            # How far beyond that is nobody's question, and a resumed run measures it from another start.
            self.weight_change = max(self.weight_change or 0.0, min(values[WEIGHT_CHANGE], MOVED))
        for name, value in values.items():
            if self._sign(name) and math.isfinite(value):
                self._series.setdefault(name, deque(maxlen=self._rounds + 1)).append(value)
                self._first.setdefault(name, (value, None))
        if FIRST_LOSS in values:
            self._first[TRAIN_LOSS] = values[FIRST_LOSS], values[FIRST_ERROR]

    @property
    def is_still(self) -> bool:
        """Whether the weights are known not to have moved in so many rounds."""
        return self._is_old and self.weight_change is not None and self.weight_change < MOVED

    @property
    def is_idle(self) -> bool:
        """Whether the training does nothing, as far as so many rounds can tell."""
        learns = self._pretrained or any(map(self._has_improved, self._series))
        return self.is_still or (self._is_old and not learns)

    @property
    def _is_old(self) -> bool:
        return len(self._series.get(TRAIN_LOSS, ())) > self._rounds

    def state_dict(self) -> dict[str, Any]:
        """Return what was gathered, in plain types."""
        return {'version': VERSION, 'series': {name: list(values) for name, values in self._series.items()},
                'first': {name: list(level) for name, level in self._first.items()},
                'weight_change': self.weight_change, 'pretrained': self._pretrained}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._series = {name: deque(values, maxlen=self._rounds + 1) for name, values in state['series'].items()}
        self._first = {name: (level, error) for name, (level, error) in state['first'].items()}
        self.weight_change, self._pretrained = state['weight_change'], state['pretrained']

    def _sign(self, name: str) -> int:
        rule = None if name in FACTS else 'less' if name == TRAIN_LOSS else self._rule_of(name)
        return {'greater': 1, 'less': -1}.get(rule or '', 0)

    def _has_improved(self, name: str) -> bool:
        sign, (first, error) = self._sign(name), self._first[name]
        series = [sign * value for value in self._series[name]]
        level = median_of_sorted(sorted(series))
        if level - sign * first > max(GAIN * abs(first), ERRORS * (_usual_change(series) if error is None else error)):
            return True
        return steadiness(series) >= STEADY and series[-1] - series[0] > SLOW * abs(level)


def _usual_change(series: Sequence[float]) -> float:
    changes = sorted(abs(b - a) for a, b in zip(series, series[1:]))
    return median_of_sorted(changes) if changes else math.inf
