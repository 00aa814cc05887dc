"""The scores of the steps that are kept, and whether a new one belongs to them."""

from __future__ import annotations

from dataclasses import dataclass

from mmckpt.policy.selection.rules import Rule
from mmckpt.policy.selection.scores import is_better

Step = tuple[int, int]


@dataclass(frozen=True)
class TopScores:
    """The best steps of a run by one score.

    Every rank has the same ones, so every rank comes to the same answer.

    Args:
        rule (str): ``'greater'`` or ``'less'``.
        keep (int): How many; -1 for all.
        min_delta (float): By how much the worst of them must be beaten.
        scores (dict[tuple[int, int], float]): Score by (epoch, iteration).

    Example:
        >>> top = TopScores('greater', 2, 0.0, {}).adding((1, 10), 0.5).adding((2, 20), 0.7)
        >>> top.takes((3, 30), 0.5), top.takes((3, 30), 0.6)
        (False, True)
        >>> top.adding((3, 30), 0.6).scores
        {(2, 20): 0.7, (3, 30): 0.6}
    """

    rule: Rule
    keep: int
    min_delta: float
    scores: dict[Step, float]

    @property
    def best(self) -> float | None:
        """The best score, or None."""
        ranked = self._ranked(self.scores)
        return self.scores[ranked[0]] if ranked else None

    def takes(self, step: Step, score: float | None) -> bool:
        """Whether a step is kept for its score.

        There is room, or it beats the worst one that is kept by more than
        ``min_delta``. A tie does not: the older step stays. A step that is
        among them already (it was trained once more) must beat itself.
        """
        if not is_better(score, None, self.rule):
            return False
        if step in self.scores:
            return is_better(score, self.scores[step], self.rule)
        if self.keep == -1 or len(self.scores) < self.keep:
            return True
        worst = self.scores[self._ranked(self.scores)[self.keep - 1]]
        return is_better(score, worst, self.rule, self.min_delta)

    def adding(self, step: Step, score: float) -> TopScores:
        """Return the scores with one more step, and without those that it pushes out."""
        scores = {**self.scores, step: score}
        ranked = self._ranked(scores)
        kept = ranked if self.keep == -1 else ranked[:self.keep]
        return TopScores(self.rule, self.keep, self.min_delta, {s: scores[s] for s in sorted(kept)})

    def _ranked(self, scores: dict[Step, float]) -> list[Step]:
        sign = -1 if self.rule == 'greater' else 1
        return sorted(scores, key=lambda step: (sign * scores[step], step))
