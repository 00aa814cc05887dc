"""Which validation metrics the monitor watches for drops, and which way each is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import CheckpointHook

from mmckpt.errors import near_matches
from mmckpt.policy.selection import infer_rule


class WatchedMetrics:
    """Finds the metrics to watch among those that a validation shows.

    Args:
        drop (dict, optional): Arguments of the switch ``performance_drop``:
            ``metric``, ``threshold`` and ``rule``. None if it is off.

    Raises:
        ValueError: If the rule of a named metric is not known.
    """

    def __init__(self, drop: Mapping[str, Any] | None) -> None:
        self._on = drop is not None
        asked = (drop or {}).get('metric') or []
        names = [asked] if isinstance(asked, str) else list(asked)
        self._asked = {name: infer_rule(name, (drop or {}).get('rule')) for name in names}
        self._rules: dict[str, Any] = dict(self._asked)
        self._missing: set[str] = set()

    def learn_rules(self, runner: Any) -> None:
        """Take the rules that the checkpoint hooks were given."""
        for name, rule in save_best(runner):
            if name != 'auto' and rule:
                self._rules.setdefault(name, rule)

    def rule_of(self, metric: str) -> str | None:
        """Return ``'greater'``, ``'less'``, or None if it is not known."""
        try:
            return self._rules.get(metric) or self._rules.get(metric.split('/')[-1]) or infer_rule(metric)
        except ValueError:
            return None

    def to_watch(self, runner: Any, scores: Mapping[str, float]) -> Iterator[tuple[str, Any]]:
        """Give full name and rule of each metric to watch that this validation shows."""
        if not self._on or not scores:
            return
        for asked, rule in self._asked.items():
            name = full_name(asked, scores)
            if name is not None:
                yield name, rule
            elif asked not in self._missing:
                self._missing.add(asked)
                runner.logger.warning(
                    f'performance_drop: metric={asked!r} is not among the metrics of this validation, '
                    f'so it is not watched. {near_matches(asked, scores)}')
        if self._asked:
            return
        for name, rule in save_best(runner):
            name = next(iter(scores)) if name == 'auto' else name
            if (rule or self.rule_of(name)) == 'greater':
                yield name, 'greater'


def save_best(runner: Any) -> list[tuple[str, str | None]]:
    """Return metric and rule of each ``save_best`` of the checkpoint hooks; a rule may not be known yet."""
    pairs: list[tuple[str, str | None]] = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            # A combined score is no metric of the validation.
            pairs += ([(s.metric, s.rule) for s in hook.selections if s.metric] if hasattr(hook, 'selections')
                      else zip(hook.key_indicators, hook.rules))
    return pairs


def full_name(asked: str, scores: Mapping[str, float]) -> str | None:
    """Find ``asked``, or the only metric that it is the last part of, as in ``coco/AP``.

    Example:
        >>> full_name('AP', {'coco/AP': 0.5, 'coco/AR': 0.6})
        'coco/AP'
    """
    if asked in scores:
        return asked
    matches = [name for name in scores if name.endswith(f'/{asked}')]
    return matches[0] if len(matches) == 1 else None
