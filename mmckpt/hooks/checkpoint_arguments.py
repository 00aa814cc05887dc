"""Checks the arguments of ``CheckpointHook`` before training has cost an hour."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from mmengine.hooks import CheckpointHook as StockCheckpointHook

from mmckpt.errors import near_matches
from mmckpt.hooks.auto_schedule import AutoSchedule
from mmckpt.policy.auto_interval import AutoInterval
from mmckpt.policy.duration import parse_duration
from mmckpt.policy.selection import Selection, asks_for_a_score, parse_selection
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore

_OWN = ('max_overhead', 'mtbf', 'history', 'save_on_exception', 'keep_every', 'store')
_RULES = ('greater', 'less')
_STORE = ('async_save', 'on_busy', 'max_failures', 'keep_corrupt')


def check_arguments(hook: Any, keep_every: int, history: int) -> None:
    """Raise ValueError for an argument that is unknown or out of its range."""
    for name in hook.args:
        known = [*list(inspect.signature(StockCheckpointHook.__init__).parameters)[1:-1], *_OWN]
        raise ValueError(f'CheckpointHook has no argument {name!r}. {near_matches(name, known)}')
    if not (_is_count(hook.max_keep_ckpts) or hook.max_keep_ckpts == -1):
        raise ValueError(f'max_keep_ckpts must be -1 (keep all) or at least 1, but got {hook.max_keep_ckpts!r}: '
                         'the newest checkpoint is always kept.')
    if not (_is_count(keep_every) or keep_every == -1):
        raise ValueError(f'keep_every must be -1 (none) or at least 1, but got {keep_every!r}.')
    if not _is_count(history):
        raise ValueError(f'history must be at least 1 value, but got {history!r}.')


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def split_save_best(stock: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[Selection]]:
    """Separate ``save_best`` into what MMEngine takes, names, and what we do, selections.

    Args:
        stock (callable): MMEngine's constructor, bound to an object.
        args (tuple): Positional arguments of the hook.
        kwargs (dict): Keyword arguments of the hook.

    Returns:
        tuple: All arguments by name, and the selections; none where MMEngine
        is to refuse ``save_best``.

    Raises:
        ValueError: If a spec is wrong or two have one name.
    """
    arguments = inspect.signature(stock).bind(*args, **kwargs).arguments
    arguments.update(arguments.pop('kwargs', {}))
    given = arguments.get('save_best')
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(value, str) or asks_for_a_score(value) for value in several):
        return arguments, []
    selections = [parse_selection(value) for value in several]
    names = [selection.name for selection in selections]
    if len(set(names)) < len(names) and any(not isinstance(value, str) for value in several):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'save_best has two selections named {twice!r}: give one of them another name, as in '
                         f"dict(name='{twice}_smooth', metric=..., smooth=0.6).")
    arguments['save_best'] = names if isinstance(given, (list, tuple)) or not isinstance(given, str) else given
    return arguments, selections


def settle_rules(selections: list[Selection], names: list[str], rules: list, greater: list[str],
                 less: list[str]) -> list[Selection]:
    """Give each selection its rule; ``'auto'`` has none until a validation names the metric.

    Args:
        selections (list[Selection]): As they were given.
        names (list[str]): MMEngine's key indicators; for ``'auto'`` the metric that stands for it.
        rules (list): The hook's ``rule``, one for each name or one for all; a
            selection's own wins.
        greater (list[str]): The hook's ``greater_keys``.
        less (list[str]): The hook's ``less_keys``.

    Raises:
        KeyError: If a rule is another word.
        ValueError: If one cannot be inferred.
    """
    rules = rules * len(names) if len(rules) == 1 else rules
    for rule in rules:
        if rule not in _RULES and rule is not None:
            raise KeyError(f'rule must be greater, less or None, but got {rule}. {near_matches(rule, _RULES)}')
    settled = []
    for selection, name, rule in zip(selections, names, rules):
        if selection.name == 'auto' and name != 'auto':
            selection = replace(selection, name=name, metric=name)
        if selection.rule is None and rule is not None:
            selection = replace(selection, rule=rule)
        settled.append(selection if name == 'auto' else selection.with_rule(greater, less))
    return settled


def refuse_specs(selections: list[Selection], out_dir: str) -> None:
    """Raise ValueError for selections that MMEngine's own code cannot serve: the files do not lie on a local disk."""
    for selection in selections:
        if replace(selection, rule=None) != parse_selection(selection.name):
            raise ValueError(f'save_best: the spec of {selection.name!r} needs checkpoints on a local disk, but they '
                             f'go to {out_dir}. Give names of metrics only, or an out_dir on a local disk.')


def auto_schedule(interval: Any, max_overhead: float, mtbf: Any) -> AutoSchedule | None:
    """Return the schedule of ``interval='auto'``, or None for a number.

    Raises:
        ValueError: If the interval is neither, or another argument is out of its range.
    """
    if interval == 'auto':
        return AutoSchedule(AutoInterval(max_overhead, None if mtbf is None else parse_duration(mtbf)))
    if isinstance(interval, bool) or not isinstance(interval, int):
        raise ValueError(f"interval must be a whole number or 'auto', but got {interval!r}.")
    return None


def checked_store_cfg(store: dict | None) -> tuple[dict[str, Any], bool]:
    """Return the arguments of the store, with staging where it saves in the background, and ``keep_corrupt``.

    Raises:
        ValueError: If an argument is unknown or out of its range.
    """
    cfg = dict(store or {})
    for name in cfg:
        if name not in _STORE:
            raise ValueError(f'CheckpointHook(store=dict(...)) has no argument {name!r}. {near_matches(name, _STORE)}')
    keep_corrupt = bool(cfg.pop('keep_corrupt', False))
    if cfg.get('async_save'):
        cfg['stage'] = Snapshot()
    # Checks the values now, not when training starts.
    CheckpointStore('.', **cfg)
    return cfg, keep_corrupt
