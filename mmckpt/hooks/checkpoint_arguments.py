"""Checks the arguments of ``CheckpointHook`` before training has cost an hour."""

from __future__ import annotations

import inspect
from typing import Any

from mmengine.hooks import CheckpointHook as StockCheckpointHook

from mmckpt.errors import near_matches
from mmckpt.hooks.auto_schedule import AutoSchedule
from mmckpt.policy.auto_interval import AutoInterval
from mmckpt.policy.duration import parse_duration
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore

_OWN = ('max_overhead', 'mtbf', 'history', 'save_on_exception', 'keep_every', 'store')
_STORE = ('async_save', 'on_busy', 'max_failures', 'keep_corrupt')


def check_arguments(hook: Any, keep_every: int, history: int) -> None:
    """Raise ValueError for an argument that is unknown or out of its range."""
    for name in hook.args:
        known = [*list(inspect.signature(StockCheckpointHook.__init__).parameters)[1:-1], *_OWN]
        raise ValueError(f'CheckpointHook has no argument {name!r}. {near_matches(name, known)}')
    if hook.max_keep_ckpts == 0 or hook.max_keep_ckpts < -1:
        raise ValueError(f'max_keep_ckpts must be -1 (keep all) or at least 1, but got {hook.max_keep_ckpts}: '
                         'the newest checkpoint is always kept.')
    if keep_every == 0 or keep_every < -1:
        raise ValueError(f'keep_every must be -1 (none) or at least 1, but got {keep_every}.')
    if history < 1:
        raise ValueError(f'history must be at least 1 value, but got {history}.')


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
