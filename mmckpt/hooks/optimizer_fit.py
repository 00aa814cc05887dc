"""Whether saved optimizer and scheduler states belong to those that a Runner has built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmckpt.hooks.facts import optim_wrappers, parameter_names
from mmckpt.state.digest import digest
from mmckpt.state.preflight import Difference, inexact

# Moments that have the shape of their parameter, in PyTorch's optimizers.
_MOMENTS = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'momentum_buffer', 'square_avg')
# An optimizer without one of these in its state fails at its first step.
_ESSENTIAL = ('lr', 'betas', 'momentum', 'weight_decay', 'eps', 'alpha', 'rho', 'dampening', 'nesterov')
# What a scheduler counts; all else is what it was built with.
_COUNTERS = ('last_step', 'base_values', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter')


def misfit(runner: Any, saved: dict[str, Any], parameter_order: str | None) -> str | None:
    """Return why a saved optimizer state cannot be continued, or None if it can.

    Args:
        runner (Runner): The runner, its optimizer built.
        saved (dict): The checkpoint's ``optimizer``.
        parameter_order (str or None): The fact of that name, if the file has it.

    Returns:
        str or None: A clause without a full stop.
    """
    wrappers = optim_wrappers(runner.optim_wrapper)
    states = {'': saved} if 'param_groups' in saved else saved
    if set(states) != set(wrappers):
        return f'expected the optimizers {_names(wrappers)}, found {_names(states)}'
    for name, wrapper in wrappers.items():
        reason = _group_misfit(states[name], wrapper)
        if reason is not None:
            return reason if not name else f'{name}: {reason}'
    if parameter_order not in (None, digest(parameter_names(runner))):
        return ('the groups have the same sizes but hold other parameters, or in another order, so that each '
                "would go on with another one's moments")
    return None


def hyperparameter_differences(runner: Any, saved: dict[str, Any]) -> Iterator[Difference]:
    """Yield the hyperparameters that stay those of the file, whatever the config says now."""
    states = {'': saved} if 'param_groups' in saved else saved
    found: dict[tuple[str, str, str], int] = {}
    for name, wrapper in optim_wrappers(runner.optim_wrapper).items():
        for before, now in zip(states[name]['param_groups'], wrapper.param_groups):
            for key in _comparable(before, now):
                if before[key] != now[key]:
                    row = (key.replace('initial_', ''), str(before[key]), str(now[key]))
                    found[row] = found.get(row, 0) + 1
    for (key, before, now), groups in found.items():
        yield inexact('optimizer', f'{key} of {groups} group(s) stays {before} as in the file; the {now} of '
                      'the config is not used in a resume')


def scheduler_differences(runner: Any, checkpoint: dict[str, Any]) -> Iterator[Difference]:
    """Yield the settings of schedulers that stay those of the file, ``end`` above all."""
    if 'param_schedulers' not in checkpoint or not runner.param_schedulers:
        return
    saved, now = (_named(part) for part in (checkpoint['param_schedulers'], runner.param_schedulers))
    for name in [*now, *(n for n in saved if n not in now)]:
        before, built = saved.get(name, []), now.get(name, [])
        if len(before) != len(built):
            yield inexact('scheduler', f'{name}{len(before)} in the file, {len(built)} now: they are matched '
                          'in order, and one that has no match starts anew or is left out')
        for i, (state, scheduler) in enumerate(zip(before, built)):
            yield from _setting_differences(f'{name}{type(scheduler).__name__}[{i}]', state, scheduler)


def _group_misfit(saved: Any, wrapper: Any) -> str | None:
    if not isinstance(saved, dict) or 'param_groups' not in saved:
        return 'the file holds the state of something else'
    # The wrapper's own list has one more group where there are several, which is no parameter's.
    own = wrapper.optimizer.param_groups
    expected, found = ([len(group['params']) for group in groups] for groups in (own, saved['param_groups']))
    if expected != found:
        return (f'expected {_groups(expected)}, found {_groups(found)} (a frozen layer, or another '
                'paramwise_cfg?)')
    for now, before in zip(own, saved['param_groups']):
        absent = [key for key in _ESSENTIAL if key in now and key not in before]
        if absent:
            return (f'{type(wrapper.optimizer).__name__} needs {", ".join(absent)}, which the file does not '
                    'hold: it was written by another optimizer')
    return _shape_misfit(saved, wrapper)


def _shape_misfit(saved: dict[str, Any], wrapper: Any) -> str | None:
    parameters = [p for group in wrapper.optimizer.param_groups for p in group['params']]
    keys = [key for group in saved['param_groups'] for key in group['params']]
    for i, (key, parameter) in enumerate(zip(keys, parameters)):
        for moment, value in saved['state'].get(key, {}).items():
            if moment in _MOMENTS and isinstance(value, torch.Tensor) and value.shape != parameter.shape:
                return (f'{moment} of parameter {i} is {tuple(value.shape)} in the file, and the parameter '
                        f'{tuple(parameter.shape)}')
    return None


def _comparable(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    keys = [key for key in before if key in now and key != 'params']
    # A scheduler moves `lr`; what the config said is `initial_lr`.
    return [key for key in keys if f'initial_{key}' not in before
            and isinstance(before[key], (int, float, tuple, list)) and key != '_global_step']


def _setting_differences(name: str, saved: dict[str, Any], scheduler: Any) -> Iterator[Difference]:
    now = scheduler.state_dict()
    for key in now:
        if key.startswith('_') or key in _COUNTERS or key not in saved or saved[key] == now[key]:
            continue
        if not isinstance(now[key], (int, float, str, list, tuple, dict)):
            continue
        follows = ', and it does nothing from there on' if key == 'end' else ''
        yield inexact('scheduler', f'{name}.{key} stays {saved[key]} as in the file{follows}; the {now[key]} '
                      'of the config is not used in a resume')


def _named(schedulers: Any) -> dict[str, list[Any]]:
    if isinstance(schedulers, dict):
        return {f'{name}.': list(part) for name, part in schedulers.items()}
    return {'': schedulers}


def _groups(sizes: list[int]) -> str:
    shown = ', '.join(map(str, sizes[:5])) + (', ...' if len(sizes) > 5 else '')
    return f'{len(sizes)} parameter group(s) of {shown} parameters'


def _names(parts: Any) -> str:
    return ', '.join(repr(name) for name in parts)
