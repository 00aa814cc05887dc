"""States of PyTorch's learning-rate schedulers as those of MMEngine's, and back."""

from __future__ import annotations

from typing import Any

_COUNTERS = {'base_lrs': 'base_values', 'last_epoch': 'last_step', '_last_lr': '_last_value'}
# Settings that mean the same in both.
_SETTINGS = ('step_size', 'gamma', 'milestones', 'T_max', 'eta_min', 'start_factor', 'end_factor', 'power', 'factor')
_PLATEAU = ('best', 'num_bad_epochs', 'cooldown_counter', 'patience', 'threshold', 'threshold_mode', 'cooldown', 'eps')
# What marks a scheduler that has no counterpart with the same arithmetic.
_STRANGE = {'lr_lambdas': 'its factors are functions', 'T_cur': 'warm restarts have no counterpart that counts alike',
            '_milestones': 'MMEngine gives each part its own begin and end instead', 'total_steps':
            'the one-cycle policy keeps its phases in another form', '_schedulers': 'a chain of schedulers'}


def mapped_schedulers(states: list[Any]) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:
    """Turn states of PyTorch's schedulers into states for MMEngine's, in the same order.

    Args:
        states (list[dict]): One a scheduler.

    Returns:
        tuple: The states (an empty one for each scheduler that cannot be
        mapped, since MMEngine matches them in order), what was kept, and what
        was lost and why.

    Example:
        >>> state = dict(step_size=2, gamma=0.5, base_lrs=[0.01], last_epoch=3, _step_count=4, _last_lr=[0.005])
        >>> mapped_schedulers([state])[0]
        [{'base_values': [0.01], 'last_step': 3, '_last_value': [0.005], '_global_step': 3, 'step_size': 2,
          'gamma': 0.5}]
    """
    found: list[dict[str, Any]] = []
    kept, lost = {}, {}
    for i, state in enumerate(states):
        name = f'scheduler {i}' if len(states) > 1 else 'scheduler'
        strange = next((key for key in _STRANGE if key in state), None)
        if strange or 'last_epoch' not in state:
            lost[name] = _STRANGE.get(strange or '', 'it has no last_epoch')
            found.append({})
            continue
        new = {ours: state[theirs] for theirs, ours in _COUNTERS.items() if theirs in state}
        # Building a scheduler counts as a step in PyTorch.
        new['_global_step'] = state.get('_step_count', state['last_epoch'] + 1) - 1
        settings = _PLATEAU if 'num_bad_epochs' in state else _SETTINGS
        new.update({key: state[key] for key in settings if key in state})
        found.append(new)
        kept[name] = f"{state['last_epoch']} steps made, lr {state.get('_last_lr', '?')}"
    return (found if any(found) else []), kept, lost


def back_to_torch(state: dict[str, Any]) -> dict[str, Any]:
    """Turn a state of one of MMEngine's schedulers into one for PyTorch's."""
    new = {theirs: state[ours] for theirs, ours in _COUNTERS.items() if ours in state}
    new['_step_count'] = state.get('_global_step', 0) + 1
    new.update({key: state[key] for key in (*_SETTINGS, *_PLATEAU) if key in state})
    return new
