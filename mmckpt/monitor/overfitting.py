"""Finds a validation loss that rises while the training loss falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.monitor.finding import Finding, where
from mmckpt.monitor.learning import TRAIN_LOSS
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

# By how much the training loss must have fallen since the best validation, as a share.
FALLEN = 0.05


class OverfittingDetector:
    """Fires where the validation loss has been above its best for some validations and the training loss fell.

    It needs the validation loss among the metrics: add
    ``dict(type='mmckpt.ValLossHook')`` to ``custom_hooks``.

    Args:
        validations (int): Validations in a row without a new best; at least
            1. Defaults to 5.
        rise (float): How far the validation loss must be above its best, as a
            share of it. Defaults to 0.15.
        metric (str): Name of the validation loss, or its last part. Defaults
            to ``'loss'``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = OverfittingDetector(validations=2)
        >>> for epoch, (train, val) in enumerate([(1.0, 1.0), (0.5, 1.3), (0.3, 1.5)], start=1):
        ...     found = detector.update({'train_loss': train, 'loss': val}, Progress(epoch, 10 * epoch))
        >>> print(found[0].message)
        Overfitting at epoch 3, iter 30: loss rose from 1.0000 (epoch 1, iter 10) to 1.5000 while train_loss fell from
        1.0000 to 0.3000.
    """

    def __init__(self, validations: int = 5, rise: float = 0.15, metric: str = 'loss') -> None:
        if validations < 1:
            raise ValueError(f'validations must be at least 1, but got {validations}.')
        if not 0 <= rise < math.inf:
            raise ValueError(f'rise must be a number of at least 0, but got {rise}.')
        self.validations, self.rise, self.metric = validations, rise, metric
        self._best: float | None = None
        # The training loss now, and at the best validation.
        self._latest = math.nan
        self._train = 0.0
        self._best_at = Progress(0, 0)
        self._since = 0

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take ``train_loss`` of an epoch, metrics of a validation, or both; return a finding if they go apart."""
        self._latest = values.get(TRAIN_LOSS, self._latest)
        name = next((n for n in values if n == self.metric or n.endswith(f'/{self.metric}')), '')
        train, val = self._latest, values.get(name, math.nan)
        if not (math.isfinite(train) and math.isfinite(val)):
            return []
        if self._best is None or val < self._best:
            self._best, self._train, self._best_at, self._since = val, train, progress, 0
            return []
        self._since += 1
        risen = val - self._best > self.rise * abs(self._best)
        fallen = self._train - train > FALLEN * abs(self._train)
        if self._since < self.validations or not risen or not fallen:
            return []
        return [self._finding(name, train, val, self._best, progress)]

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation in plain types."""
        at = self._best_at
        return {'version': VERSION, 'best': self._best, 'train': self._train, 'since': self._since,
                'latest': None if math.isnan(self._latest) else self._latest,
                'best_epoch': at.epoch, 'best_iter': at.iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._best, self._train, self._since = state['best'], state['train'], state['since']
        self._latest = math.nan if state['latest'] is None else state['latest']
        self._best_at = Progress(epoch=state['best_epoch'], iter=state['best_iter'])

    def _finding(self, name: str, train: float, val: float, best: float, progress: Progress) -> Finding:
        return Finding(
            'overfitting', 'warning', name,
            f'Overfitting at {where(progress)}: {name} rose from {best:.4f} ({where(self._best_at)}) to {val:.4f} '
            f'while {TRAIN_LOSS} fell from {self._train:.4f} to {train:.4f}.',
            progress, val - best, {'current': val, 'best': best, 'train': train, 'train_at_best': self._train})
