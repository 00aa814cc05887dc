"""States of PyTorch's learning-rate schedulers as those of MMEngine's."""

from __future__ import annotations

from typing import Any

from mmckpt.files.chains import Part, beside_others, parts_of
from mmckpt.files.schedule_kinds import settings_of, written


def mapped_schedulers(states: list[Any], iterations: int | None = None
                      ) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:
    """Turn states of PyTorch's schedulers into states for MMEngine's, in the same order.

    A chain becomes the several schedulers that MMEngine has in its place.

    Args:
        states (list[dict]): One a scheduler.
        iterations (int, optional): Completed ones; a scheduler that has made as
            many steps counts them. Defaults to None, all count epochs.

    Returns:
        tuple: The states (an empty one for each scheduler that cannot be
        mapped, since MMEngine matches them in order), what was kept, and what
        was lost and why.

    Example:
        >>> state = dict(step_size=2, gamma=0.5, base_lrs=[0.01], last_epoch=3, _step_count=4, _last_lr=[0.005])
        >>> states, kept, lost = mapped_schedulers([state])
        >>> states
        [{'begin': 0, 'last_step': 3, '_global_step': 3, 'base_values': [0.01], '_last_value': [0.005], 'step_size': 2,
          'gamma': 0.5}]
        >>> kept
        {'scheduler': "3 steps made, lr [0.005]; in a config: dict(type='StepLR', step_size=2, gamma=0.5)"}
    """
    found: list[dict[str, Any]] = []
    kept, lost = {}, {}
    groups = [parts_of(state) for state in states]
    several = sum(map(len, groups)) > 1
    if len(groups) > 1:
        groups = [[beside_others(part) for part in parts] for parts in groups]
    for state, parts in zip(states, groups):
        for part in parts:
            name = f'scheduler {len(found)}' if several else 'scheduler'
            rates = state.get('_last_lr') if isinstance(state, dict) else None
            found.append(_mapped(part, rates) if not part.reason else {})
            if part.reason:
                lost[name] = part.reason
            else:
                kept[name] = _shown(part, rates, part.made != iterations)
            if part.kind == 'OneCycleLR' and part.state.get('cycle_momentum'):
                lost[f'momentum of {name}'] = ("the cycle moves the momentum as well, which MMEngine's OneCycleLR "
                                               'leaves where it is now; the learning rates are the same')
    return (found if any(found) else []), kept, lost


def _mapped(part: Part, rates: Any) -> dict[str, Any]:
    made = part.made if part.end is None else min(part.made, part.end - 1)
    new: dict[str, Any] = {'begin': part.begin, **({} if part.end is None else {'end': part.end}),
                           'last_step': max(-1, made - part.begin), '_global_step': part.made}
    if 'base_lrs' in part.state:
        new['base_values'] = part.state['base_lrs']
    if rates is not None:
        new['_last_value'] = rates
    return {**new, **(settings_of(part.kind, part.state) if part.kind else {})}


def _shown(part: Part, rates: Any, by_epoch: bool) -> str:
    if not part.kind:
        return f'finished at step {part.end}'
    state = f'{part.made} steps made, lr {rates}' if part.begin <= part.made else f'begins at step {part.begin}'
    return f'{state}; in a config: {written(part.kind, part.state, part.begin, part.end, by_epoch)}'
