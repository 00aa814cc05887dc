"""Finds a loss or metric that makes no progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Callable

from mmckpt.monitor.finding import Finding, where
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

TRAIN_LOSS = 'train_loss'
# A training loss that has gained less than this share of its first value has learnt nothing yet.
LEARNT = 0.1


class PlateauDetector:
    """Fires where a loss or metric has not improved for a number of rounds.

    A round is an epoch for the training loss, and a validation for a metric.
    A training loss that has not come down since the start is a warning
    (``no_progress``); a plateau after progress is an info, since every
    training ends in one.

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

    def update(self, values: Mapping[str, float], progress: Progress) -> list[Finding]:
        """Take the values of one round; return a finding for each that stands still."""
        return [finding for name, value in values.items() if math.isfinite(value)
                for finding in self._judge(name, value, progress)]

    def state_dict(self) -> dict[str, Any]:
        """Return first and best values, in plain types."""
        return {'version': VERSION, 'tracks': {name: dict(track) for name, track in self._tracks.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._tracks = {name: dict(track) for name, track in state['tracks'].items()}

    def _judge(self, name: str, value: float, progress: Progress) -> list[Finding]:
        rule = 'less' if name == TRAIN_LOSS else self._rule_of(name)
        if rule is None:
            return []
        track = self._tracks.get(name)
        gain = 0.0 if track is None else track['best'] - value if rule == 'less' else value - track['best']
        if track is None or gain > self.min_delta * abs(track['best']):
            first = value if track is None else track['first']
            self._tracks[name] = dict(first=first, best=value, epoch=progress.epoch, iter=progress.iter, since=0)
            return []
        track['since'] += 1
        return [_stalled(name, value, track, progress)] if track['since'] >= self.rounds else []


def _stalled(name: str, value: float, track: Mapping[str, Any], progress: Progress) -> Finding:
    first, best, since = track['first'], track['best'], track['since']
    best_at = where(Progress(track['epoch'], track['iter']))
    numbers = {'current': value, 'best': best, 'first': first, 'rounds': float(since)}
    if name == TRAIN_LOSS and first - best < LEARNT * abs(first):
        return Finding(
            'no_progress', 'warning', name,
            f'No progress at {where(progress)}: {name} is {value:.4f}, at the start it was {first:.4f}; best '
            f'{best:.4f} ({best_at}).', progress, 0.0, numbers)
    rounds = 'epochs' if name == TRAIN_LOSS else 'validations'
    return Finding(
        'plateau', 'info', name,
        f'Plateau at {where(progress)}: {name} has not improved for {since} {rounds}; it is {value:.4f}, its best '
        f'{best:.4f} ({best_at}).', progress, 0.0, numbers)
