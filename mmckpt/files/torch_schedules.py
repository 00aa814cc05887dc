"""States of MMEngine's schedulers as those of PyTorch's, for programs that go on from a file of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmckpt.files.schedule_kinds import ends_at_base, is_count, place_among_periods

# Names in MMEngine by those in PyTorch, for the way back.
_COUNTERS = {'base_lrs': 'base_values', 'last_epoch': 'last_step', '_last_lr': '_last_value'}
_SETTINGS = ('step_size', 'gamma', 'milestones', 'T_max', 'eta_min', 'start_factor', 'end_factor', 'power', 'factor',
             'total_iters', 'best', 'num_bad_epochs', 'cooldown_counter', 'patience', 'threshold', 'cooldown', 'eps')
_PLATEAU = {'min_values': 'min_lrs', 'threshold_rule': 'threshold_mode'}
_MODES = {'less': 'min', 'greater': 'max'}
# What tells those apart that can give back the full rate.
_KINDS = {'start_factor': 'LinearLR', 'factor': 'ConstantLR', 'step_size': 'StepLR', 'milestones': 'MultiStepLR'}


def schedules_to_torch(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn the states of all schedulers of an optimizer into those that PyTorch has for it.

    Several that follow one another become a ``SequentialLR``, and several that
    act together a ``ChainedScheduler``.

    Args:
        states (Sequence[dict]): Of MMEngine's schedulers, in their order.

    Raises:
        ValueError: If nothing of PyTorch's counts alike.

    Example:
        >>> decay = dict(begin=0, last_step=3, _global_step=3, base_values=[0.1], _last_value=[0.07], gamma=0.9)
        >>> [sorted(state) for state in schedules_to_torch([decay, decay])]
        [['_last_lr', '_schedulers']]
    """
    if len(states) < 2:
        return [back_to_torch(state) for state in states]
    begins = [state.get('begin', 0) for state in states]
    if not any(begins):
        return [{'_schedulers': [back_to_torch(state) for state in states], '_last_lr': states[-1]['_last_value']}]
    return [_sequence(states, begins)]


def back_to_torch(state: Mapping[str, Any]) -> dict[str, Any]:
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


def _sequence(states: Sequence[Mapping[str, Any]], begins: list[int]) -> dict[str, Any]:
    made = states[0].get('_global_step', 0)
    if begins[0] != 0 or begins != sorted(set(begins)):
        raise ValueError(f'they begin at the steps {begins}, and those of PyTorch follow one another')
    parts = []
    for state, begin, end in zip(states, begins, [*begins[1:], None]):
        steps = None if end is None else end - begin
        if end is not None and end > made:
            kind = next((kind for key, kind in _KINDS.items() if key in state), '')
            if state.get('end', float('inf')) > end + 1 or not ends_at_base(kind, state, steps):
                raise ValueError(f'PyTorch goes back to the full rate at step {end}, and the one before leaves another')
        part = back_to_torch({**state, 'begin': 0, 'end': float('inf')})
        parts.append({**part, 'last_epoch': steps - 1 if end is not None and end <= made else max(-1, made - begin)})
    return {'_milestones': begins[1:], 'last_epoch': made, '_last_lr': states[-1]['_last_value'], '_schedulers': parts}


def _counted(state: Mapping[str, Any]) -> dict[str, Any]:
    new = {theirs: state[ours] for theirs, ours in _COUNTERS.items() if ours in state}
    return {**new, '_step_count': state.get('_global_step', 0) + 1}


def _cycle_to_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    if 'periods' not in state:
        # Its phases lack the momentum's, which PyTorch has from its own arguments.
        return {**_counted(state), 'total_steps': state['total_steps']}
    periods, made = state['periods'], state['last_step']
    if not (isinstance(periods, (list, tuple)) and periods and is_count(made) and all(is_count(p, 1) for p in periods)):
        raise ValueError('its periods or its count of steps are no whole numbers')
    first, factor = periods[0], periods[1] // periods[0] if len(periods) > 1 else 1
    grows = factor and all(after == before * factor for before, after in zip(periods, periods[1:]))
    if not grows or any(weight != 1 for weight in state['restart_weights']):
        raise ValueError(f'its periods {str(periods)[:50]} or their weights are not those of '
                         'CosineAnnealingWarmRestarts')
    if state.get('eta_min_ratio') is not None:
        raise ValueError('its least rate is a share of the first, which CosineAnnealingWarmRestarts has not')
    at, period = place_among_periods(first, factor, made)
    return {**_counted(state), 'eta_min': state['eta_min'], 'T_0': first, 'T_mult': factor, 'T_cur': at, 'T_i': period}
