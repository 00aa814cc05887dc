"""From the metrics of a validation to the score of a selection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.errors import MetricNotFoundError, near_matches
from mmckpt.policy.selection.scores import as_score
from mmckpt.policy.selection.spec import Selection


class Scorer:
    """Gives the score of each validation, combined and smoothed; its state is kept over a resume.

    A validation without a score (a metric is missing, None, NaN or infinite)
    leaves the smoothing as it was.

    Args:
        selection (Selection): What is scored.

    Example:
        >>> score = Scorer(Selection('AP', metric='AP', smooth=0.5))
        >>> score({'AP': 1.0}), score({'AP': 4.0}), score({'AP': None})
        (1.0, 3.0, None)
        >>> score.reason
        'AP is None in this validation'
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.reason = ''
        self._expression = selection.expression()
        self._smoothing = selection.smoothing()
        self._seen: set[str] = set()

    def __call__(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the score, or None, with the reason in ``reason``.

        Args:
            metrics (Mapping[str, Any]): Metrics of a validation; see :func:`as_score`.

        Raises:
            MetricNotFoundError: If a metric is not there and never was.
            ValueError: If the metric is not one number.
        """
        raw = self.raw(metrics)
        return None if raw is None else self.smoothed(raw)

    def raw(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the combined score before smoothing, or None; the smoothing does not see it."""
        score = self.combined(metrics)
        if score is None or math.isfinite(score):
            return score
        what = self.selection.expr or self.selection.needs[0]
        self.reason = f'{what} is {score} in this validation'
        return None

    def combined(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the combined score, NaN and infinity included, or None if a metric is missing or None."""
        self.reason = ''
        values: dict[str, float] = {}
        for name in self.selection.needs:
            value = self._value(name, metrics)
            if value is None:
                return None
            values[name] = value
        return values[self.selection.needs[0]] if self._expression is None else self._expression(values)

    def smoothed(self, score: float) -> float:
        """Return a finite score after smoothing, which remembers it."""
        return score if self._smoothing is None else self._smoothing(score)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the smoothing and the metrics seen so far."""
        return dict(version=1, seen=sorted(self._seen), smoothing=None if self._smoothing is None else dict(
            self._smoothing.state_dict(), kind=type(self._smoothing).__name__))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run left off; a state of another kind of smoothing is left out."""
        self._seen = set(state['seen'])
        saved = dict(state['smoothing'] or {})
        if self._smoothing is not None and saved.pop('kind', None) == type(self._smoothing).__name__:
            self._smoothing.load_state_dict(saved)

    def _value(self, name: str, metrics: Mapping[str, Any]) -> float | None:
        if name not in metrics:
            self.reason = f'{name!r} is not among the metrics of this validation. {near_matches(name, metrics)}'
            if name not in self._seen:
                raise MetricNotFoundError(f'{self.reason}{self._advice(name)}')
            self.reason += ' It was there before.'
            return None
        self._seen.add(name)
        value = as_score(metrics[name])
        if value is None:
            self.reason = f'{name} is {metrics[name]} in this validation'
            return None
        return value

    def _advice(self, name: str) -> str:
        if self._expression is None:
            return ' Monitor one of them, or add a metric that gives it.'
        return (f' The expression {self._expression.text!r} of {self.selection.name!r} needs it; names with other '
                "characters than letters, digits and _ stand in quotes, as in '\"coco/AP\"'.")


