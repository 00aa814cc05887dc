"""What a quick check saw, judged; no Runner in here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from mmckpt.cli.config import configured_hooks, type_name
from mmckpt.errors import near_matches
from mmckpt.policy.selection import Expression, asks_for_a_score

_MOST_NAMES = 10


@dataclass(frozen=True)
class Finding:
    """Something to tell the user.

    Args:
        severe (bool): Whether training should not start before it is understood.
        text (str): One sentence that says what to do.
    """

    severe: bool
    text: str


def problem(text: str) -> Finding:
    """Return a finding that fails the check."""
    return Finding(True, text)


def note(text: str) -> Finding:
    """Return a finding that does not."""
    return Finding(False, text)


@dataclass(frozen=True)
class TermSummary:
    """One entry of the train step's outputs over all iterations.

    Args:
        name (str): Its name, such as ``'heatmap_loss'``.
        computed (int): Iterations in which it was there.
        iterations (int): Iterations in all.
        first, last, low, high (float): Values; low and high of the finite ones.
        finite (bool): Whether all values are finite.
    """

    name: str
    computed: int
    iterations: int
    first: float
    last: float
    low: float
    high: float
    finite: bool

    @property
    def is_loss(self) -> bool:
        """Whether MMEngine adds it to the total: every name that contains ``loss``."""
        return 'loss' in self.name


@dataclass
class Gradients:
    """What the optimizer steps saw.

    Args:
        steps (int): Optimizer steps.
        norms (list[float]): Norm over all parameters at each step.
        names (list[str]): Trainable parameters.
        reached (set[str]): Those that had a gradient in at least one step.
        alive (set[str]): Those whose gradient was not zero in at least one step.
        not_finite (dict[str, int]): Step, from 1, at which a gradient was first NaN or Inf.
    """

    steps: int = 0
    norms: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)
    not_finite: dict[str, int] = field(default_factory=dict)


def summarize_terms(terms: Mapping[str, Sequence[float]], iterations: int) -> list[TermSummary]:
    """Summarize the values of each term, in the order in which the model gives them.

    Example:
        >>> [term] = summarize_terms({'loss': [2.0, float('nan'), 1.0]}, iterations=4)
        >>> term.computed, term.low, term.finite
        (3, 1.0, False)
    """
    summaries = []
    for name, values in terms.items():
        finite = [v for v in values if math.isfinite(v)] or [math.nan]
        summaries.append(TermSummary(
            name, len(values), iterations, values[0], values[-1], min(finite), max(finite),
            all(map(math.isfinite, values))))
    return summaries


def judge_terms(terms: Sequence[TermSummary]) -> list[Finding]:
    """Judge whether every loss term is computed, finite and not constantly zero."""
    if not any(t.is_loss for t in terms):
        return [problem("the train step returned no loss: forward(mode='loss') must return a dict with "
                        "names that contain 'loss'")]
    findings = []
    broken = [term.name for term in terms if not term.finite]
    if broken:
        findings.append(problem(f"NaN or Inf in {', '.join(broken)}: look at the learning rate, the data and "
                                'divisions by zero or logarithms of zero in the loss'))
    for term in terms:
        if term.computed < term.iterations and term.is_loss:
            findings.append(problem(f'{term.name} was computed in {term.computed} of {term.iterations} '
                                    'iterations only: ranks that differ in this hang in DDP'))
        if term.is_loss and term.low == term.high == 0 and term.finite:
            findings.append(problem(f'{term.name} is 0 in every iteration: look at its weight, its targets '
                                    'and the masks or weights of the targets'))
    return findings


def judge_gradients(seen: Gradients) -> list[Finding]:
    """Judge whether the backward pass reaches the parameters with finite gradients."""
    if seen.steps == 0:
        return [problem('the optimizer made no step: with mixed precision that means gradients that are '
                        'NaN or Inf in every iteration')]
    findings = []
    if seen.not_finite:
        names = [f'{name} (step {step})' for name, step in seen.not_finite.items()]
        findings.append(problem(f'the gradient is NaN or Inf in {_shown(names)}'))
    silent = [name for name in seen.names if name not in seen.reached]
    if silent and len(silent) == len(seen.names):
        findings.append(problem('no parameter got a gradient: the loss does not depend on the model'))
    elif silent:
        findings.append(note(f'no gradient reached {_shown(silent)}; in DDP set find_unused_parameters=True '
                             'or requires_grad=False on them'))
    dead = [name for name in seen.names if name in seen.reached and name not in seen.alive
            and name not in seen.not_finite]
    if dead:
        findings.append(note(f'the gradient was exactly 0 in every step in {_shown(dead)}'))
    return findings


def monitored_metrics(cfg: Config) -> list[tuple[str, str]]:
    """Return who monitors which metric: ``save_best``, early stopping, plateau schedulers.

    Example:
        >>> monitored_metrics(Config(dict(default_hooks=dict(
        ...     checkpoint=dict(type='CheckpointHook', save_best=['AP', 'PCK'])))))
        [('CheckpointHook', 'AP'), ('CheckpointHook', 'PCK')]
        >>> monitored_metrics(Config(dict(custom_hooks=[dict(
        ...     type='EarlyStoppingHook', monitor=dict(expr='AP - loss', rule='greater'))])))
        [('EarlyStoppingHook', 'AP'), ('EarlyStoppingHook', 'loss')]
    """
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]
    found = []
    for spec in [*configured_hooks(cfg), *schedulers]:
        if not isinstance(spec, dict):
            continue
        wanted = spec.get('save_best', spec.get('monitor'))
        for asked in wanted if isinstance(wanted, (list, tuple)) else [wanted]:
            found += [(type_name(spec), metric) for metric in _metrics_of(asked) if metric != 'auto']
    return found


def _metrics_of(asked: Any) -> list[str]:
    """The metrics that a name or a spec needs; a spec that is wrong is refused where the hook is built."""
    if isinstance(asked, str):
        return [asked]
    if not asks_for_a_score(asked):
        return []
    if asked.get('expr') is not None:
        return list(Expression(asked['expr']).names)
    return [asked['metric']]


def judge_monitors(monitors: Sequence[tuple[str, str]], metrics: Sequence[str]) -> list[Finding]:
    """Judge whether each monitored metric is one that the validation produces (R22)."""
    return [problem(f'{who} monitors {metric!r}, which the validation does not produce. '
                    f'{near_matches(metric, metrics)}')
            for who, metric in monitors if metric not in metrics]


def _shown(names: Sequence[Any]) -> str:
    more = f' and {len(names) - _MOST_NAMES} more' if len(names) > _MOST_NAMES else ''
    return f"{len(names)} parameter(s): {', '.join(map(str, names[:_MOST_NAMES]))}{more}"
