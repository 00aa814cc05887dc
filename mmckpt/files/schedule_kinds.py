"""Which of PyTorch's schedulers a state is from, and the scheduler of MMEngine that has the same arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_COUNTERS = {'base_lrs', 'last_epoch', '_step_count', '_last_lr', '_get_lr_called_within_step', '_is_initial',
             'verbose'}
# MMEngine's class by the settings that its counterpart keeps; those that mean the same have the same name.
_KINDS = {
    'StepLR': ('step_size', 'gamma'), 'MultiStepLR': ('milestones', 'gamma'), 'ExponentialLR': ('gamma',),
    'CosineAnnealingLR': ('T_max', 'eta_min'), 'LinearLR': ('start_factor', 'end_factor', 'total_iters'),
    'ConstantLR': ('factor', 'total_iters'), 'PolyLR': ('power', 'total_iters')}
_RESTARTS = {'T_0', 'T_i', 'T_mult', 'eta_min', 'T_cur'}
_PLATEAU = {key: key for key in ('factor', 'best', 'num_bad_epochs', 'cooldown_counter', 'patience', 'threshold',
                                 'cooldown', 'eps')}
_PLATEAU.update(mode='rule', threshold_mode='threshold_rule', min_lrs='min_values')
_RULES = {'min': 'less', 'max': 'greater'}
# What marks a scheduler without a counterpart.
_STRANGE = {'lr_lambdas': 'its factors are functions, which only the program that wrote the file has',
            '_scale_fn_custom': 'MMEngine has no cyclic schedule', 'anneal_epochs':
            'MMEngine has no schedule that goes over to the rate of stochastic weight averaging',
            '_milestones': 'it is a chain inside a chain', '_schedulers': 'it is a chain inside a chain'}
# These set the rate; all others change the one that they find.
ABSOLUTE = ('CosineRestartLR', 'OneCycleLR')


def kind_of(state: Any) -> tuple[str, str]:
    """Return MMEngine's class for a state of PyTorch's, or '' and the reason why there is none.

    Example:
        >>> kind_of(dict(step_size=2, gamma=0.5, last_epoch=3, base_lrs=[0.01]))
        ('StepLR', '')
        >>> kind_of(dict(lr_lambdas=[None], last_epoch=3))[1]
        'its factors are functions, which only the program that wrote the file has'
    """
    if not isinstance(state, dict):
        return '', 'it has no state'
    strange = next((reason for key, reason in _STRANGE.items() if key in state), None)
    if strange is not None:
        return '', strange
    if not is_count(state.get('last_epoch'), least=-1):
        return '', 'it does not say how many steps it has made (last_epoch)'
    settings = state.keys() - _COUNTERS
    if 'num_bad_epochs' in state:
        mode = state.get('mode', 'min')
        return ('ReduceOnPlateauLR', '') if mode in ('min', 'max') else ('', 'its mode is neither min nor max')
    if {'total_steps', '_schedule_phases'} <= settings:
        return ('OneCycleLR', '') if _phases(state) else ('', 'the phases of its cycle are unknown')
    kind = next((kind for kind, names in _KINDS.items() if settings == set(names)), '')
    if settings == _RESTARTS:
        kind = 'CosineRestartLR'
    if not all(map(_is_sound, settings, map(state.get, settings))):
        return '', 'its settings are no numbers'
    return kind, '' if kind else f'a scheduler that keeps {", ".join(sorted(map(str, settings))[:8])} is unknown here'


def settings_of(kind: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a state of PyTorch's, under the names that MMEngine's scheduler has for them."""
    if kind == 'ReduceOnPlateauLR':
        found = {ours: state[theirs] for theirs, ours in _PLATEAU.items() if theirs in state}
        return {**found, 'rule': _RULES.get(found.get('rule', 'min'), 'less')}
    if kind == 'OneCycleLR':
        return {'total_steps': state['total_steps'], '_schedule_phases': _phases(state)}
    if kind == 'CosineRestartLR':
        return {'eta_min': state['eta_min'], 'eta_min_ratio': None}
    found = {key: state[key] for key in _KINDS[kind]}
    return {**found, **{'CosineAnnealingLR': {'eta_min_ratio': None}, 'PolyLR': {'eta_min': 0.0}}.get(kind, {})}


def written(kind: str, state: Mapping[str, Any], begin: int, end: int | None, by_epoch: bool = True) -> str:
    """Return MMEngine's scheduler as one writes it in a config.

    Example:
        >>> written('LinearLR', dict(start_factor=0.1, end_factor=1.0, total_iters=5, last_epoch=2), 0, 6)
        "dict(type='LinearLR', start_factor=0.1, end_factor=1.0, end=6)"
    """
    parts = {name: state[name] for name in _KINDS.get(kind, ()) if name != 'total_iters'}
    if kind == 'MultiStepLR':
        milestones = state['milestones']
        parts['milestones'] = [step for step in sorted(milestones)[:20] for _ in range(min(9, milestones[step]))]
    if kind == 'ReduceOnPlateauLR':
        parts = {key: value for key, value in settings_of(kind, state).items() if key in ('rule', 'factor', 'patience')}
    if kind == 'OneCycleLR':
        # The greatest rate comes with the groups of the optimizer.
        parts = dict(total_steps=state['total_steps'], anneal_strategy=state.get('_anneal_func_type', 'cos'),
                     three_phase=len(state['_schedule_phases']) == 3)
    if kind == 'CosineRestartLR':
        first, factor = state['T_0'], state['T_mult']
        periods = ', '.join(str(first * factor ** i) for i in range(3))
        texts = [f'periods=[{periods}, ...]', 'restart_weights=[1, 1, 1, ...]', f"eta_min={state['eta_min']!r}"]
    else:
        texts = [f'{name}={value!r}' for name, value in parts.items()]
    texts += [f'begin={begin}'] * bool(begin) + [f'end={end}'] * (end is not None)
    return f'dict({", ".join([f"type={kind!r}", *texts, *["by_epoch=False"] * (not by_epoch)])})'


def misplaced(state: Mapping[str, Any]) -> str | None:
    """Why a schedule with warm restarts is not where its count of steps says, or None if it is there."""
    made = state['last_epoch']
    at, period = place_among_periods(state['T_0'], state['T_mult'], made)
    if (state['T_cur'], state['T_i']) != (at, period):
        return (f"it stands at {state['T_cur']} of a period of {state['T_i']} after {made} steps: it was stepped by "
                'parts of an epoch, which MMEngine never does')
    return None


def place_among_periods(first: int, factor: int, made: int) -> tuple[int, int]:
    """Return the steps made in the period at hand, and its length.

    Example:
        >>> place_among_periods(first=2, factor=2, made=7)
        (1, 8)
    """
    if factor == 1:
        return made % first, first
    at, period = made, first
    while at >= period:
        at, period = at - period, period * factor
    return at, period


def is_count(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number that a training can reach."""
    return type(value) is int and least <= value < 10 ** 12


def ends_at_base(kind: str, state: Mapping[str, Any], steps: int) -> bool:
    """Whether a schedule of PyTorch's has given back the full rate after some steps.

    Example:
        >>> ends_at_base('LinearLR', dict(start_factor=0.1, end_factor=1.0, total_iters=5), 5)
        True
    """
    if kind == 'LinearLR':
        return state['end_factor'] == 1 and state['total_iters'] <= steps
    if kind == 'ConstantLR':
        return bool(state['total_iters'] <= steps)
    if kind == 'StepLR':
        return bool(state['step_size'] >= steps)
    return kind == 'MultiStepLR' and min(state['milestones'], default=math.inf) >= steps


def _is_sound(name: Any, value: Any) -> bool:
    if name == 'milestones':
        return isinstance(value, dict) and all(is_count(number) for pair in value.items() for number in pair)
    if name in ('T_0', 'T_mult', 'total_iters', 'step_size'):
        return is_count(value, 0 if name == 'total_iters' else 1)
    return type(value) in (int, float)


def _phases(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The phases of a cycle without those of the momentum, which MMEngine leaves alone."""
    phases = state['_schedule_phases']
    keys = ('end_step', 'start_lr', 'end_lr')
    if not (isinstance(phases, list) and all(isinstance(p, dict) and all(key in p for key in keys) for p in phases)):
        return []
    return [{key: phase[key] for key in keys} for phase in phases]
