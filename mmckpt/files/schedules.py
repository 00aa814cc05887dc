"""States of PyTorch's learning-rate schedulers as those of MMEngine's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmckpt.files.chains import Part, beside_others, parts_of
from mmckpt.files.schedule_kinds import settings_of, written

# Names in MMEngine by those in PyTorch, for the way back.
_COUNTERS = {'base_lrs': 'base_values', 'last_epoch': 'last_step', '_last_lr': '_last_value'}
_SETTINGS = ('step_size', 'gamma', 'milestones', 'T_max', 'eta_min', 'start_factor', 'end_factor', 'power', 'factor',
             'total_iters', 'best', 'num_bad_epochs', 'cooldown_counter', 'patience', 'threshold', 'cooldown', 'eps')
_PLATEAU = {'min_values': 'min_lrs', 'threshold_rule': 'threshold_mode'}
_MODES = {'less': 'min', 'greater': 'max'}


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


def back_to_torch(state: dict[str, Any]) -> dict[str, Any]:
    """Turn a state of one of MMEngine's schedulers into one for PyTorch's.

    Raises:
        ValueError: If no scheduler of PyTorch's counts alike.
    """
    if state.get('begin', 0):
        raise ValueError(f"it begins at step {state['begin']}, and PyTorch's begin at 0")
    if 'eta_min_ratio' in state and not state.keys() & {'T_max', 'periods'}:
        raise ValueError('its periods are not in the file')
    if 'periods' in state or '_schedule_phases' in state:
        return _cycle_to_torch(state)
    if state.get('end', float('inf')) <= state.get('_global_step', 0) and 'total_iters' not in state:
        raise ValueError(f"it has ended at step {state['end']}, and PyTorch's never do")
    new = _counted(state)
    new.update({key: state[key] for key in _SETTINGS if key in state})
    if 'num_bad_epochs' in state:
        new.update({theirs: state[ours] for ours, theirs in _PLATEAU.items() if ours in state})
        new.update({'mode': _MODES[state['rule']]} if state.get('rule') in _MODES else {})
    return new


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


def _counted(state: Mapping[str, Any]) -> dict[str, Any]:
    new = {theirs: state[ours] for theirs, ours in _COUNTERS.items() if ours in state}
    return {**new, '_step_count': state.get('_global_step', 0) + 1}


def _cycle_to_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    if 'periods' not in state:
        # Its phases lack the momentum's, which PyTorch has from its own arguments.
        return {**_counted(state), 'total_steps': state['total_steps']}
    periods, made = list(state['periods']), state['last_step']
    first, factor = periods[0], periods[1] // periods[0] if len(periods) > 1 else 1
    if periods != [first * factor ** i for i in range(len(periods))] or any(w != 1 for w in state['restart_weights']):
        raise ValueError(f'its periods {periods} or their weights are not those of CosineAnnealingWarmRestarts')
    if state.get('eta_min_ratio') is not None:
        raise ValueError('its least rate is a share of the first, which CosineAnnealingWarmRestarts has not')
    at, period = made, first
    while at >= period:
        at, period = at - period, period * factor
    return {**_counted(state), 'eta_min': state['eta_min'], 'T_0': first, 'T_mult': factor, 'T_cur': at, 'T_i': period}
