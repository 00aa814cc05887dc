"""Early stopping whose counter survives a resume."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook
from mmengine.logging import print_log

from mmckpt.errors import near_matches
from mmckpt.hooks.runner_adapter import progress_between
from mmckpt.policy.selection import DEFAULT_GREATER, DEFAULT_LESS, as_score, infer_rule
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

    Args:
        monitor (str): The metric that decides.
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

    Raises:
        ValueError: If ``rule`` cannot be inferred or an argument is out of
            its range.

    Example:
        >>> custom_hooks = [dict(
        ...     type='mmckpt.EarlyStoppingHook', monitor='PCK', patience=10, min_delta=0.001)]
    """

    # After the schedulers (70), before CheckpointHook (90), which saves this hook's counter.
    priority = 80

    _default_greater_keys = list(DEFAULT_GREATER)
    _default_less_keys = list(DEFAULT_LESS)

    def __init__(self, monitor: str, rule: str | None = None, min_delta: float = 0.1,
                 strict: bool = False, check_finite: bool = True, patience: int = 5,
                 stopping_threshold: float | None = None) -> None:
        super().__init__(monitor, rule, min_delta, strict, check_finite, patience, stopping_threshold)
        if patience < 0:
            raise ValueError(f'patience must be at least 0 validations, but got {patience}.')
        self.last_score: float | None = None
        self._best_at: str | None = None
        self._train_loop: Any = None

    def before_run(self, runner: Any) -> None:
        """Check that the train loop can be stopped; ``val()`` and ``test()`` have none."""
        if _trains(runner):
            super().before_run(runner)

    def before_train(self, runner: Any) -> None:
        """Know the loop to stop, should the state that is loaded next say so."""
        self._train_loop = runner.train_loop

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Judge this validation."""
        score = self._find_score(metrics) if _trains(runner) else None
        if score is None:
            return
        # MMEngine's users expect .item(), and messages a number without its type.
        self.last_score = np.float64(score)
        waited = self.wait_count
        stop, reason = self._check_stop_condition(self.last_score)
        progress = progress_between(runner)
        now = f'epoch {progress.epoch}' if progress.epoch else f'iter {progress.iter}'
        if self.wait_count > waited:
            runner.logger.info(f'Early stopping: {self._standing(score)}.')
        elif math.isfinite(score):
            self._best_at = now
        if stop:
            runner.train_loop.stop_training = True
            runner.logger.info(f'Early stopping ends the training after {now}: {reason}')

    def state_dict(self) -> dict[str, Any]:
        """Return counter and scores, in numbers and strings."""
        return dict(version=1, monitor=self.monitor, rule=self.rule, wait_count=self.wait_count,
                    best_score=float(self.best_score), best_at=self._best_at,
                    last_score=None if self.last_score is None else float(self.last_score))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting where a run left off; stop again if it was stopped."""
        if (state['monitor'], state['rule']) != (self.monitor, self.rule):
            print_log(
                f"Early stopping monitors {self.monitor} ({self.rule}), in the checkpoint it was "
                f"{state['monitor']} ({state['rule']}): it starts to count anew.", 'current', logging.WARNING)
            return
        self.wait_count = state['wait_count']
        self.best_score = np.float64(state['best_score'])
        self.last_score = state['last_score']
        self._best_at = state['best_at']
        reason = self._reason_to_stay_stopped()
        if reason and self._train_loop is not None:
            self._train_loop.stop_training = True
            print_log(f'Early stopping had ended this run, and does so again: {reason}',
                      'current', logging.WARNING)

    def _init_rule(self, monitor: str) -> str:
        return infer_rule(monitor, None, self._default_greater_keys, self._default_less_keys)

    def _check_stop_condition(self, current_score: float) -> tuple[bool, str]:
        if self.check_finite and not math.isfinite(current_score):
            return True, f'{self.monitor} is {current_score} (best {self._best()}).'
        if math.isnan(current_score):
            # Every comparison with NaN is false, which MMEngine takes for an improvement.
            self.wait_count += 1
            return self.wait_count >= self.patience, f'{self._standing(current_score)}.'
        stop, reason = super()._check_stop_condition(current_score)
        return stop, reason.strip()

    def _find_score(self, metrics: Mapping[str, Any]) -> float | None:
        problem = f'does not have it. {near_matches(self.monitor, metrics)}'
        try:
            score = as_score(metrics.get(self.monitor))
        except ValueError as error:
            score, problem = None, f'has no number there. {error}'
        if score is None:
            text = f'Early stopping monitors {self.monitor!r}, but this validation {problem}'
            if self.strict:
                raise RuntimeError(text)
            warnings.warn(f'{text} Nothing is counted; set monitor to a metric that is there.', stacklevel=2)
        return score

    def _best(self) -> str:
        return f'{self.best_score:.4f} at {self._best_at}' if self._best_at else 'none yet'

    def _standing(self, score: float) -> str:
        return (f'no improvement of {self.monitor} in {self.wait_count}/{self.patience} validations '
                f'(best {self._best()}, now {score:.4f}, min_delta={abs(self.min_delta):g})')

    def _reason_to_stay_stopped(self) -> str:
        if self.last_score is None:
            return ''
        if self.check_finite and not math.isfinite(self.last_score):
            return (f'{self.monitor} was {self.last_score}. Resume from an earlier checkpoint, or set '
                    'check_finite=False to go on.')
        threshold = self.stopping_threshold
        if threshold is not None and self.rule_map[self.rule](self.last_score, threshold):
            return (f'{self.monitor} = {self.last_score:.4f} is {self.rule} than '
                    f'stopping_threshold={threshold}. Set another threshold to go on.')
        if 0 < self.wait_count >= self.patience:
            return f'{self._standing(self.last_score)}. Raise patience to go on.'
        return ''


def _trains(runner: Any) -> bool:
    # Runner.train_loop, and with it Runner.epoch, would build the loop of a run that only validates.
    return runner._train_loop is not None and not isinstance(runner._train_loop, dict)
