"""Finds a loss or metric that makes no progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Callable

from mmckpt.monitor.finding import Finding, where
from mmckpt.monitor.learning import FACTS, TRAIN_LOSS, Learning
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

# A training loss that has gained this share of its first value has learnt something, whatever came later.
LEARNT = 0.1


class PlateauDetector:
    """Fires where a loss or metric has not improved for a number of rounds.

    A round is an epoch for the training loss, and a validation for a metric.
    A training loss that stands still because the training does nothing is a
    warning (``no_progress``), see :class:`mmckpt.monitor.learning.Learning`;
    another plateau is an info, since every training ends in one.

    Args:
        rounds (int): Rounds without progress; at least 1. Defaults to 10.
        min_delta (float): Least progress that counts, as a share of the best
            value. Defaults to 0.01.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for a
            metric; those without a rule are not watched.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> detector = PlateauDetector(rounds=2)
        >>> for epoch in (1, 2, 3):
        ...     found = detector.update({'train_loss': 2.3}, Progress(epoch, 10 * epoch))
        >>> print(found[0].message)
        No progress at epoch 3, iter 30: train_loss is 2.3000, at the start it was 2.3000; best 2.3000
        (epoch 1, iter 10).
    """

    def __init__(self, rounds: int = 10, min_delta: float = 0.01,
                 rule_of: Callable[[str], str | None] = lambda name: None) -> None:
        if rounds < 1:
            raise ValueError(f'rounds must be at least 1, but got {rounds}.')
        if not 0 <= min_delta < math.inf:
            raise ValueError(f'min_delta must be a number of at least 0, but got {min_delta}.')
        self.rounds, self.min_delta = rounds, min_delta
        self._rule_of = rule_of
        self._tracks: dict[str, dict[str, Any]] = {}
        self._learning = Learning(rounds, rule_of)

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the values of one round; return a finding for each that stands still."""
        self._learning.update(values)
        return [finding for name, value in values.items() if math.isfinite(value)
                for finding in self._judge(name, value, progress)]

    def state_dict(self) -> dict[str, Any]:
        """Return first and best values, in plain types."""
        return {'version': VERSION, 'tracks': {name: dict(track) for name, track in self._tracks.items()},
                'learning': self._learning.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._tracks = {name: dict(track) for name, track in state['tracks'].items()}
        if 'learning' in state:
            self._learning.load_state_dict(state['learning'])
        else:
            # How far the weights had moved before such a resume is not known.
            self._learning.weight_change = math.inf

    def _judge(self, name: str, value: float, progress: Progress) -> list[Finding]:
        rule = None if name in FACTS else 'less' if name == TRAIN_LOSS else self._rule_of(name)
        if rule is None:
            return []
        track = self._tracks.get(name)
        gain = 0.0 if track is None else track['best'] - value if rule == 'less' else value - track['best']
        if track is None or gain > self.min_delta * abs(track['best']):
            first = value if track is None else track['first']
            track = dict(first=first, best=value, epoch=progress.epoch, iter=progress.iter, since=0)
            self._tracks[name] = track
        else:
            track['since'] += 1
        # Weights that do not move make no progress, though the noise of the loss may look like some.
        still = name == TRAIN_LOSS and self._learning.is_still
        if track['since'] < self.rounds and not still:
            return []
        unlearnt = name == TRAIN_LOSS and track['first'] - track['best'] < LEARNT * abs(track['first'])
        idle = still or (unlearnt and self._learning.is_idle)
        return [_stalled(name, value, track, self._learning if idle else None, progress)]


def _stalled(name: str, value: float, track: Mapping[str, Any], idle: Learning | None, progress: Progress) -> Finding:
    first, best, since = track['first'], track['best'], track['since']
    best_at = where(Progress(track['epoch'], track['iter']))
    numbers = {'current': value, 'best': best, 'first': first, 'rounds': float(since)}
    if idle is not None:
        change = '' if not idle.is_still else (
            f' The weights have not moved (by {idle.weight_change:.1g} of their norm).')
        return Finding(
            'no_progress', 'warning', name,
            f'No progress at {where(progress)}: {name} is {value:.4f}, at the start it was {first:.4f}; best '
            f'{best:.4f} ({best_at}).{change}', progress, 0.0, numbers)
    rounds = 'epochs' if name == TRAIN_LOSS else 'validations'
    return Finding(
        'plateau', 'info', name,
        f'Plateau at {where(progress)}: {name} has not improved for {since} {rounds}; it is {value:.4f}, its best '
        f'{best:.4f} ({best_at}).', progress, 0.0, numbers)
