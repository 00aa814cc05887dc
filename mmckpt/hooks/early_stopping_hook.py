"""Early stopping whose counter survives a resume."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop

from mmckpt.errors import MetricNotFoundError
from mmckpt.hooks.runner_adapter import progress_between
from mmckpt.policy.selection import DEFAULT_GREATER, DEFAULT_LESS
from mmckpt.policy.stopping import StoppingCondition, make_condition
from mmckpt.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(_EarlyStoppingHook):
    """Stops training when a metric no longer improves, also across a resume.

    It takes MMEngine's arguments with the same meaning. What differs:

    - ``mmckpt.CheckpointHook`` keeps its counter and best score; a run that it
      stopped stops again when resumed, unless ``patience`` (or the threshold
      that stopped it) was raised.
    - Each validation without an improvement prints the count, best and present
      value.
    - Rules are inferred for more metrics (AP, PCK, EPE, abs_rel, ...).
    - A NaN is never an improvement, also with ``check_finite=False``.
    - A metric that is missing is reported with the names that are nearest.
    - ``monitor`` may be a combined or smoothed score, or several conditions,
      of which the first that holds ends the training.

    Args:
        monitor (str, dict or list): The metric that decides; or a spec such as
            ``dict(expr='AP - loss', rule='greater')`` or ``dict(metric='PCK', smooth=0.6)``
            (see :class:`mmckpt.policy.selection.Selection`), which may hold
            any of the arguments below for itself; or a list of both.
        rule (str, optional): ``'greater'`` or ``'less'``. Defaults to None,
            inferred from the name.
        min_delta (float): What a validation must add to the best score to
            count, in the metric's unit: choose a small one for metrics between
            0 and 1. Defaults to 0.1, as in MMEngine.
        strict (bool): Whether a missing metric is an error instead of a
            warning. Defaults to False.
        check_finite (bool): Whether NaN or infinity stops training. Defaults
            to True.
        patience (int): Validations in a row without improvement after which
            training stops. Defaults to 5.
        stopping_threshold (float, optional): Training stops at once when the
            metric is better than this. Defaults to None.
        divergence_threshold (float, optional): Training stops at once when the
            metric is worse than this. Defaults to None.
        cumulative (bool): Whether improvements below ``min_delta`` add up until
            they count, as in MMEngine; else each of them raises the bar.
            Defaults to True.
        by_epoch (bool): Whether ``patience`` counts epochs since the last
            improvement instead of validations. Defaults to False.

    Raises:
        ValueError: If ``rule`` cannot be inferred or an argument is out of
            its range.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.EarlyStoppingHook', min_delta=0.001, monitor=[
        ...     dict(metric='PCK', patience=10), dict(metric='loss', divergence_threshold=100., patience=1000)])]
    """

    # After the schedulers (70), before CheckpointHook (90), which saves this hook's counter.
    priority = 80

    _default_greater_keys = list(DEFAULT_GREATER)
    _default_less_keys = list(DEFAULT_LESS)

    def __init__(self, monitor: str | Mapping[str, Any] | Sequence[Any], rule: str | None = None,
                 min_delta: float = 0.1, strict: bool = False, check_finite: bool = True, patience: int = 5,
                 stopping_threshold: float | None = None, divergence_threshold: float | None = None,
                 cumulative: bool = True, by_epoch: bool = False) -> None:
        if rule not in ('greater', 'less', None):
            raise ValueError(f'`rule` should be either "greater" or "less", but got {rule}')
        limits = dict(min_delta=min_delta, check_finite=check_finite, patience=patience,
                      stopping_threshold=stopping_threshold, divergence_threshold=divergence_threshold,
                      cumulative=cumulative, by_epoch=by_epoch)
        asked = [monitor] if isinstance(monitor, (str, Mapping)) else list(monitor)
        if not asked:
            raise ValueError('monitor is an empty list: give at least one metric.')
        self.conditions = [make_condition(one, limits, rule, self._default_greater_keys, self._default_less_keys)
                           for one in asked]
        self.strict = strict
        self._train_loop: Any = None

    # MMEngine's attributes, of the first condition.
    monitor = property(lambda self: self.conditions[0].name)
    rule = property(lambda self: self.conditions[0].rule)
    patience = property(lambda self: self.conditions[0].limits.patience)
    check_finite = property(lambda self: self.conditions[0].limits.check_finite)
    stopping_threshold = property(lambda self: self.conditions[0].limits.stopping_threshold)
    min_delta = property(lambda self: self.conditions[0].limits.min_delta * (1 if self.rule == 'greater' else -1))
    wait_count = property(lambda self: self.conditions[0].wait_count)
    best_score = property(lambda self: self.conditions[0].best_score)
    last_score = property(lambda self: self.conditions[0].last_score)

    def before_run(self, runner: Any) -> None:
        """Check that the train loop can be stopped; ``val()`` and ``test()`` have none."""
        if not _trains(runner):
            return
        super().before_run(runner)
        if isinstance(runner.train_loop, IterBasedTrainLoop) and any(c.limits.by_epoch for c in self.conditions):
            raise ValueError('EarlyStoppingHook(by_epoch=True) counts epochs, which an iteration-based training does '
                             'not have: leave by_epoch=False, patience then counts validations.')

    def before_train(self, runner: Any) -> None:
        """Know the loop to stop, should the state that is loaded next say so."""
        self._train_loop = runner.train_loop

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Judge this validation by each condition."""
        if not _trains(runner):
            return
        progress = progress_between(runner)
        for condition in self.conditions:
            score = self._find_score(condition, metrics)
            if score is None:
                continue
            verdict = condition.update(score, progress)
            if verdict.standing:
                runner.logger.info(f'Early stopping: {verdict.standing}.')
            if verdict.reason:
                runner.train_loop.stop_training = True
                now = f'epoch {progress.epoch}' if progress.epoch else f'iter {progress.iter}'
                runner.logger.info(f'Early stopping ends the training after {now}: {verdict.reason}')

    def state_dict(self) -> dict[str, Any]:
        """Return counters and scores, in numbers and strings; those of the first condition at the top."""
        first, *others = [condition.state_dict() for condition in self.conditions]
        return {**first, 'others': others} if others else first

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting where a run left off; stop again if it was stopped."""
        saved = {one['monitor']: one for one in [*state.get('others', []), state]}
        for condition in self.conditions:
            known = saved.get(condition.name)
            # With one condition, the other metric is the news.
            known = state if known is None and len(self.conditions) == len(saved) == 1 else known
            if known is not None and (known['monitor'], known['rule']) == (condition.name, condition.rule):
                condition.load_state_dict(known)
                self._stay_stopped(condition)
            elif known is not None:
                print_log(f"Early stopping monitors {condition.name} ({condition.rule}), in the checkpoint it was "
                          f"{known['monitor']} ({known['rule']}): it starts to count anew.",
                          'current', logging.WARNING)

    def _stay_stopped(self, condition: StoppingCondition) -> None:
        reason = condition.reason_to_stay_stopped()
        if reason and self._train_loop is not None:
            self._train_loop.stop_training = True
            print_log(f'Early stopping had ended this run, and does so again: {reason}', 'current', logging.WARNING)

    def _find_score(self, condition: StoppingCondition, metrics: Mapping[str, Any]) -> float | None:
        try:
            score, problem = condition.score(metrics), condition.scorer.reason
        except (MetricNotFoundError, ValueError) as error:
            score, problem = None, str(error)
        if score is None:
            text = f'Early stopping monitors {condition.name!r}, which this validation does not give: {problem}'
            if self.strict:
                raise RuntimeError(text)
            warnings.warn(f'{text} Nothing is counted.', stacklevel=2)
        return score


def _trains(runner: Any) -> bool:
    # Runner.train_loop, and with it Runner.epoch, would build the loop of a run that only validates.
    return runner._train_loop is not None and not isinstance(runner._train_loop, dict)
