"""States of optimizers, one or several, as MMEngine keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmckpt.files.schedules import mapped_schedulers

# Buffers, which no optimizer knows.
_BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked')

# What a scheduler keeps for each group.
PER_GROUP = ('base_values', '_last_value', 'min_values')


def misfit(state: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str | None:
    """Why moments cannot belong to weights: they follow the order of the parameters, without their names.

    Args:
        state (Mapping): State of one optimizer.
        weights (Mapping[str, Tensor]): The weights that there are.

    Returns:
        str or None: A clause without a full stop.
    """
    shapes = iter([tuple(w.shape) for name, w in weights.items() if not name.endswith(_BUFFERS)])
    for group in state['param_groups']:
        for key in group['params']:
            entry = state['state'].get(key)
            values = entry.values() if isinstance(entry, dict) else ()
            moments = [v for v in values if isinstance(v, torch.Tensor) and v.dim()]
            if moments and not any(shape == tuple(moments[0].shape) for shape in shapes):
                return (f'the moments of parameter {key} have the shape {tuple(moments[0].shape)}, and no weight that '
                        'is left has it in this order')
    return None


def misfit_of_several(states: Mapping[str, Mapping[str, Any]], weights: Mapping[str, torch.Tensor]) -> str | None:
    """The same for several optimizers; one that is called like a part of the model is held against that part."""
    for name, state in states.items():
        own = {key: value for key, value in weights.items() if key.startswith(f'{name}.')}
        reason = misfit(state, own or weights)
        if reason is not None:
            return f'{name}: {reason}'
    return None


def with_base_settings(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state as MMEngine's wrapper keeps it, which has one more group where there are several.

    It has no parameters and shows in the log at which rate the training is;
    the first group stands for it here.

    Args:
        state (dict): State of one optimizer.
    """
    groups = state['param_groups']
    if len(groups) < 2 or 'base_param_settings' in state:
        return state
    return {**state, 'base_param_settings': {**groups[0], 'params': torch.tensor([0.0])}}


def with_base_rates(schedulers: Any, optimizer: Mapping[str, Any]) -> Any:
    """Return states of schedulers with the rates of that one more group; those of several optimizers by name."""
    if isinstance(schedulers, dict):
        return {name: with_base_rates(states, optimizer[name]) for name, states in schedulers.items()}
    if 'base_param_settings' not in optimizer:
        return schedulers
    return [{key: [*value, value[0]] if key in PER_GROUP and isinstance(value, list) and value else value
             for key, value in state.items()} for state in schedulers]


def schedulers_of_several(optimizers: Mapping[str, Mapping[str, Any]], states: Sequence[Any],
                          iterations: int | None = None
                          ) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str], dict[str, str]]:
    """Give schedulers, of which a file has only a list, to the optimizers that they belong to.

    PyTorch's schedulers note the first rate of an optimizer in its groups
    (``initial_lr``), so those that have a scheduler are known, and the rates
    have to be the same on both sides.

    Args:
        optimizers (Mapping[str, dict]): States of the optimizers, by name, in the order of the file.
        states (Sequence[dict]): States of schedulers, in the order of the file.
        iterations (int, optional): As :func:`mmckpt.files.schedules.mapped_schedulers` takes them.

    Returns:
        tuple: States for MMEngine's schedulers by optimizer, what was kept, and what was lost and why.
    """
    owners = [name for name, state in optimizers.items() if all('initial_lr' in g for g in state['param_groups'])]
    empty: dict[str, list[dict[str, Any]]] = {name: [] for name in optimizers}
    if len(owners) != len(states):
        return {}, {}, {'schedulers': (f'there are {len(states)}, and {len(owners)} of the {len(optimizers)} '
                                       'optimizers have had one, so whose they are is not known')} if states else {}
    kept, lost = {}, {}
    for name, state in zip(owners, states):
        groups = optimizers[name]['param_groups']
        rates = state.get('_last_lr') if isinstance(state, dict) else None
        if rates is not None and rates != [group['lr'] for group in groups]:
            return {}, {}, {'schedulers': (f'that of {name} stands at the rate {rates}, and the optimizer at '
                                           f"{[group['lr'] for group in groups]}")}
        empty[name], *reports = mapped_schedulers([state], iterations)
        for report, target in zip(reports, (kept, lost)):
            target.update({f'{name} {part}': text for part, text in report.items()})
    return empty, kept, lost
