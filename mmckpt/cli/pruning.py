"""Which checkpoints ``mmckpt prune`` drops: records in, a plan out; nothing is touched here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmckpt.errors import UsageError, near_matches
from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast, Retention, Rule, to_drop
from mmckpt.policy.selection import infer_rule, is_better
from mmckpt.store.record import PERIODIC, Record

_BEST = 'best:'


@dataclass(frozen=True)
class Plan:
    """What goes and what stays of one run.

    Args:
        drop (tuple[Record, ...]): What goes, oldest first.
        kept (dict[str, str]): Why each of the others stays, by name.
    """

    drop: tuple[Record, ...]
    kept: dict[str, str]


def best_metrics(records: Sequence[Record]) -> list[str]:
    """Return the metrics of which a best checkpoint was kept."""
    roles = {role for record in records for role in record.roles}
    return sorted(role[len(_BEST):] for role in roles if role.startswith(_BEST))


def choose_rules(records: Sequence[Record], given: Mapping[str, str]) -> dict[str, Rule]:
    """Tell for each metric of a best checkpoint whether more or less is better.

    What is given wins, then what the records say; in those of older versions
    the name of the metric decides. Each best file was
    better than the one before it: scores that all moved the other way show
    that the name misleads, and the wrong rule would drop the best.

    Args:
        records (Sequence[Record]): Records of all runs that are pruned.
        given (Mapping[str, str]): ``'greater'`` or ``'less'`` by metric.

    Returns:
        dict[str, Rule]: The rule of each metric.

    Raises:
        UsageError: If a given metric has no best checkpoint, or a rule cannot be told.
    """
    metrics = best_metrics(records)
    for metric in given:
        if metric not in metrics:
            raise UsageError(f'--rule {metric}={given[metric]}: no checkpoint was kept as the best of '
                             f'{metric!r}. {near_matches(metric, metrics)}')
    return {metric: _rule(metric, given.get(metric), records) for metric in metrics}


def plan_run(records: Sequence[Record], keep_last: int | None, keep_best: int | None,
             rules: Mapping[str, Rule], pointed: str | None) -> Plan:
    """Decide which checkpoints of one run go.

    Args:
        records (Sequence[Record]): Records of the run.
        keep_last (int, optional): Periodic checkpoints to keep; None keeps all.
        keep_best (int, optional): Best steps to keep by each metric; None keeps all.
        rules (Mapping[str, Rule]): The rule of each metric.
        pointed (str, optional): Name of the file that ``last_checkpoint`` names; it stays.

    Returns:
        Plan: What goes and what stays.

    Example:
        >>> run = [Record(f'epoch_{i}.pth', i, 1, 1, i, i, 0.0, 5, '', ('periodic',)) for i in (1, 2, 3)]
        >>> [record.name for record in plan_run(run, 2, None, {}, None).drop]
        ['epoch_1.pth']
    """
    policies: dict[str, Retention] = {}
    if keep_last is not None:
        policies[f'last {keep_last}'] = KeepLast(keep_last)
    if keep_best is not None:
        for metric, rule in rules.items():
            policies[f'best {keep_best} by {metric}'] = KeepBest(_BEST + metric, keep_best, rule)
    retention = AnyOf(*policies.values())
    unrated = {record.name for record in records if keep_best is not None and _is_unrated(record)}
    drop = to_drop(records, retention, unrated | ({pointed} if pointed else set()))
    gone = {record.name for record in drop}
    labels = {label: policy(records) for label, policy in policies.items()}
    labels['last_checkpoint names it'] = {pointed} if pointed else set()
    labels['its score is not known'] = unrated
    labels['the newest'] = {max(records, key=lambda r: r.seq).name} if records else set()
    kept = {}
    for record in records:
        if record.name not in gone:
            reasons = [label for label, names in labels.items() if record.name in names]
            kept[record.name] = ', '.join(reasons) or _unjudged(record, retention)
    return Plan(tuple(drop), kept)


def witnesses(drop: Sequence[Record], kept: Sequence[Record]) -> dict[str, list[Record]]:
    """Return for each role of which a file goes those that stay for it, newest first.

    One of each must be valid, or dropping loses the last good file of its kind.
    """
    roles = dict.fromkeys(role for record in drop for role in record.roles)
    newest = sorted(kept, key=lambda record: record.seq, reverse=True)
    return {role: [record for record in newest if role in record.roles] for role in roles}


def _rule(metric: str, given: str | None, records: Sequence[Record]) -> Rule:
    noted = next((record.rules[metric] for record in records if metric in record.rules), None)
    if given is None and noted is not None:
        return infer_rule(metric, noted)
    try:
        rule = infer_rule(metric, given)
    except ValueError:
        raise UsageError(f'the name {metric!r} does not tell whether more or less is better: pass --rule '
                         f'{metric}=greater or --rule {metric}=less.') from None
    if given is None and _contradicts(metric, rule, records):
        raise UsageError(
            f'by its name, {rule} values of {metric!r} are better, but each of its best checkpoints has a '
            f'worse score than the one before it. Pass --rule {metric}=greater or --rule {metric}=less.')
    return rule


def _contradicts(metric: str, rule: Rule, records: Sequence[Record]) -> bool:
    steps: dict[int, dict[tuple[int, int], float]] = {}
    for record in sorted(records, key=lambda r: r.seq):
        score = record.scores.get(metric, math.nan)
        if _BEST + metric in record.roles and not math.isnan(score):
            steps.setdefault(record.run, {})[record.epoch, record.iter] = score
    pairs = [pair for scores in steps.values() for pair in zip(scores.values(), [*scores.values()][1:])]
    return bool(pairs) and all(is_better(before, after, rule) for before, after in pairs)


def _is_unrated(record: Record) -> bool:
    """Whether a best file cannot be ranked, because its index was rebuilt."""
    return any(role.startswith(_BEST) and role[len(_BEST):] not in record.scores for role in record.roles)


def _unjudged(record: Record, retention: Retention) -> str:
    others = [role for role in record.roles if role not in retention.roles]
    if others == ['foreign']:
        return 'not written by mmckpt'
    if PERIODIC in others:
        return 'periodic (no --keep-last)'
    return f"{', '.join(others)} (no rule for it)" if others else 'kept for nothing that is known'
