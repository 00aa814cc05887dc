"""Smoothed scores: one lucky validation is not the best model."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Callable, Protocol, Union

from mmckpt.errors import near_matches

Smooth = Union[float, Mapping[str, Any], None]


class Smoothing(Protocol):
    """Takes the scores of validations in their order, gives smoothed ones."""

    def __call__(self, score: float) -> float: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class ExponentialMean:
    """Mean in which each earlier score counts ``weight`` times as much as the one after it.

    The first scores are weighted so that their weights sum up to one: no
    score counts for more because it was the first.

    Args:
        weight (float): In [0, 1); 0 leaves the scores as they are.

    Raises:
        ValueError: If it is out of that range.

    Example:
        >>> mean = ExponentialMean(0.5)
        >>> mean(1.0), mean(4.0)
        (1.0, 3.0)
    """

    def __init__(self, weight: float) -> None:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < 1:
            raise ValueError(f'smooth must be a weight of the past of at least 0 and below 1, such as 0.6, '
                             f"or dict(type='median', n=3), but got {weight!r}.")
        self.weight = weight
        self._sum = self._weights = 0.0

    def __call__(self, score: float) -> float:
        self._sum = self.weight * self._sum + score
        self._weights = self.weight * self._weights + 1
        return self._sum / self._weights

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, in numbers."""
        return dict(version=1, sum=self._sum, weights=self._weights)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved sums."""
        self._sum, self._weights = state['sum'], state['weights']


class RunningMedian:
    """Median of the last scores; of fewer at the start.

    Args:
        n (int): How many, at least 2.

    Raises:
        ValueError: If it is less.

    Example:
        >>> median = RunningMedian(3)
        >>> [median(score) for score in (1.0, 9.0, 2.0, 3.0)]
        [1.0, 5.0, 2.0, 3.0]
    """

    def __init__(self, n: int = 3) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 2:
            raise ValueError(f"smooth=dict(type='median', n=...) needs n of at least 2 scores, but got {n!r}.")
        self.n = n
        self._scores: list[float] = []

    def __call__(self, score: float) -> float:
        self._scores = [*self._scores, score][-self.n:]
        return float(statistics.median(self._scores))

    def state_dict(self) -> dict[str, Any]:
        """Return the last scores."""
        return dict(version=1, scores=list(self._scores))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved scores."""
        self._scores = list(state['scores'])[-self.n:]


_KINDS: dict[str, Callable[..., Smoothing]] = {'exponential': ExponentialMean, 'median': RunningMedian}


def make_smoothing(smooth: Smooth) -> Smoothing | None:
    """Make what ``smooth=`` asks for.

    Args:
        smooth (float or dict, optional): Weight of an exponential mean, or
            ``dict(type='exponential', weight=0.6)``, or ``dict(type='median', n=3)``.

    Returns:
        Smoothing, optional: None for None.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> make_smoothing(0.6).weight, make_smoothing(dict(type='median', n=5)).n
        (0.6, 5)
    """
    if smooth is None:
        return None
    if not isinstance(smooth, Mapping):
        return ExponentialMean(smooth)
    arguments = dict(smooth)
    kind = arguments.pop('type', None)
    if kind not in _KINDS:
        raise ValueError(f'smooth=dict(type={kind!r}) is not known. {near_matches(str(kind), _KINDS)}')
    try:
        return _KINDS[kind](**arguments)
    except TypeError:
        wanted = 'weight' if kind == 'exponential' else 'n'
        raise ValueError(f'smooth=dict(type={kind!r}, ...) takes {wanted!r}, but got {sorted(arguments)}.') from None
