"""When a score says that a training should end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmckpt.errors import near_matches
from mmckpt.policy.selection import Rule, Scorer, Selection, infer_rule, is_better, parse_selection
from mmckpt.progress import Progress

_OPPOSITE: dict[Rule, Rule] = {'greater': 'less', 'less': 'greater'}
_NOT_FOR_STOPPING = ('keep', 'save_optimizer', 'filename')


@dataclass(frozen=True)
class Limits:
    """What ends a training.

    Args:
        min_delta (float): What must be added to the best score to count as an
            improvement, in units of the score. Defaults to 0.1.
        check_finite (bool): Whether NaN or infinity ends it. Defaults to True.
        patience (int): Validations (or epochs) without improvement that end it. Defaults to 5.
        stopping_threshold (float, optional): It ends once the score is better than this. Defaults to None.
        divergence_threshold (float, optional): It ends once the score is worse than this. Defaults to None.
        cumulative (bool): Whether improvements smaller than ``min_delta`` add
            up, measured from the last one that counted. Otherwise each raises
            the bar, and the training must improve by ``min_delta`` between two
            validations. Defaults to True.
        by_epoch (bool): Whether ``patience`` counts epochs instead of validations. Defaults to False.

    Raises:
        ValueError: If a value is out of its range.
    """

    min_delta: float = 0.1
    check_finite: bool = True
    patience: int = 5
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    cumulative: bool = True
    by_epoch: bool = False

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ValueError(f'patience must be at least 0 validations, but got {self.patience}.')

    @property
    def unit(self) -> str:
        """What ``patience`` counts."""
        return 'epochs' if self.by_epoch else 'validations'


@dataclass(frozen=True)
class Verdict:
    """What a score said.

    Args:
        improved (bool): Whether it is an improvement that counts.
        reason (str): Why training ends, or ``''``.
        standing (str): Count, best and present score, where there was no improvement, else ``''``.
    """

    improved: bool
    reason: str
    standing: str


class StoppingCondition:
    """Counts validations without improvement of one score; its state is kept over a resume.

    Args:
        selection (Selection): The score, with its rule.
        limits (Limits): What ends the training.

    Example:
        >>> condition = StoppingCondition(Selection('AP', metric='AP', rule='greater'), Limits(0.01, patience=1))
        >>> condition.update(0.5, Progress(1, 10)).improved
        True
        >>> condition.update(0.505, Progress(2, 20)).standing
        'no improvement of AP in 1/1 validations (best 0.5000 at epoch 1, now 0.5050, min_delta=0.01)'
    """

    def __init__(self, selection: Selection, limits: Limits) -> None:
        self.selection = selection
        self.name = selection.name
        self.rule = infer_rule(selection.name, selection.rule)
        self.limits = limits
        self.scorer = Scorer(selection)
        self.wait_count = 0
        self.best_score = -math.inf if self.rule == 'greater' else math.inf
        self.last_score: float | None = None
        self._best_at: str | None = None
        # Epoch of the last improvement, or of the first score.
        self._since: int | None = None

    def score(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the score of a validation, NaN and infinity included, or None where there is none."""
        raw = self.scorer.combined(metrics)
        return self.scorer.smoothed(raw) if raw is not None and math.isfinite(raw) else raw

    def update(self, score: float, progress: Progress) -> Verdict:
        """Count a validation.

        Args:
            score (float): What :meth:`score` returned.
            progress (Progress): Completed counts.
        """
        now = f'epoch {progress.epoch}' if progress.epoch else f'iter {progress.iter}'
        if (progress.epoch or progress.iter) < self.selection.begin:
            return Verdict(True, '', '')
        self.last_score = score
        if self._since is None:
            self._since = progress.epoch
        if self.limits.check_finite and not math.isfinite(score):
            return Verdict(False, f'{self.name} is {score} (best {self._best()}).', '')
        crossed = self._crossed(score)
        if self._improves(score):
            self.best_score, self.wait_count, self._best_at, self._since = score, 0, now, progress.epoch
            return Verdict(True, crossed, '')
        self.wait_count = progress.epoch - self._since if self.limits.by_epoch else self.wait_count + 1
        standing = self.standing(score)
        if not self.limits.cumulative and is_better(score, self.best_score, self.rule):
            self.best_score, self._best_at = score, now
        ended = f'the monitored metric did not improve: {standing}.' if self.exhausted else ''
        return Verdict(False, crossed or ended, standing)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.wait_count >= self.limits.patience

    def reason_to_stay_stopped(self) -> str:
        """Return why a run that was resumed must not go on, and what would let it; ``''`` if it may."""
        if self.last_score is None:
            return ''
        if self.limits.check_finite and not math.isfinite(self.last_score):
            return (f'{self.name} was {self.last_score}. Resume from an earlier checkpoint, or set '
                    'check_finite=False to go on.')
        crossed = self._crossed(self.last_score)
        if crossed:
            return f'{crossed} Set another threshold to go on.'
        return f'{self.standing(self.last_score)}. Raise patience to go on.' if self.exhausted else ''

    def standing(self, score: float) -> str:
        """Return count, best and a score in words."""
        limits = self.limits
        return (f'no improvement of {self.name} in {self.wait_count}/{limits.patience} {limits.unit} '
                f'(best {self._best()}, now {score:.4f}, min_delta={abs(limits.min_delta):g})')

    def state_dict(self) -> dict[str, Any]:
        """Return counter and scores, in numbers and strings."""
        state = dict(version=1, monitor=self.name, rule=self.rule, wait_count=self.wait_count,
                     best_score=float(self.best_score), best_at=self._best_at, since=self._since,
                     last_score=None if self.last_score is None else float(self.last_score))
        return {**state, 'scorer': self.scorer.state_dict()} if self.selection.smooth is not None else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting where a run left off."""
        self.wait_count = state['wait_count']
        self.best_score = state['best_score']
        self.last_score = state['last_score']
        self._best_at = state['best_at']
        self._since = state.get('since')
        if 'scorer' in state:
            self.scorer.load_state_dict(state['scorer'])

    def _improves(self, score: float) -> bool:
        """As in MMEngine, a tie counts with ``min_delta=0``; NaN never does."""
        if math.isnan(score):
            return False
        bar = self.best_score + self.limits.min_delta * (1 if self.rule == 'greater' else -1)
        return not is_better(bar, score, self.rule)

    def _crossed(self, score: float) -> str:
        limits, worse = self.limits, _OPPOSITE[self.rule]
        if limits.stopping_threshold is not None and is_better(score, limits.stopping_threshold, self.rule):
            return f'{self.name} = {score:.4f} is {self.rule} than stopping_threshold={limits.stopping_threshold}.'
        if limits.divergence_threshold is not None and is_better(score, limits.divergence_threshold, worse):
            return f'{self.name} = {score:.4f} is {worse} than divergence_threshold={limits.divergence_threshold}.'
        return ''

    def _best(self) -> str:
        return f'{self.best_score:.4f} at {self._best_at}' if self._best_at else 'none yet'


def make_condition(monitor: str | Mapping[str, Any], defaults: Mapping[str, Any], rule: str | None,
                   greater_keys: list[str], less_keys: list[str]) -> StoppingCondition:
    """Make a condition from a metric's name, or from a spec with limits of its own.

    Args:
        monitor (str or dict): A name, or keys of :class:`Selection` and :class:`Limits`.
        defaults (Mapping[str, Any]): Limits where the spec gives none.
        rule (str, optional): The rule where the spec gives none.
        greater_keys (list[str]): See :func:`mmckpt.policy.selection.infer_rule`.
        less_keys (list[str]): See there.

    Raises:
        ValueError: If the spec is wrong or the rule cannot be inferred.

    Example:
        >>> made = make_condition(dict(metric='AP', patience=3), dict(min_delta=0.0), None, ['AP'], [])
        >>> made.rule, made.limits.patience, made.limits.min_delta
        ('greater', 3, 0.0)
    """
    given: dict[str, Any] = dict(monitor) if isinstance(monitor, Mapping) else dict(metric=monitor)
    wrong = [key for key in _NOT_FOR_STOPPING if key in given]
    if wrong:
        raise ValueError(f'Early stopping has no use for {wrong[0]!r} in {monitor!r}: that is for save_best.')
    limits = {key: given.pop(key) for key in list(given) if key in Limits.__dataclass_fields__}
    known = [*Limits.__dataclass_fields__, *Selection.__dataclass_fields__]
    for key in given:
        if key not in known:
            raise ValueError(f'The condition {monitor!r} has an unknown key {key!r}. {near_matches(key, known)}')
    if given.get('rule') is None:
        given['rule'] = rule
    selection = parse_selection(given).with_rule(greater_keys, less_keys)
    return StoppingCondition(selection, Limits(**{**defaults, **limits}))
