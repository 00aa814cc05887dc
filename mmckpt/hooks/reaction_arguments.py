"""The arguments by which ``TrainingMonitorHook`` is told to act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from mmckpt.hooks.monitor_switches import arguments_of_switch
from mmckpt.hooks.nan_cases import NanCases
from mmckpt.hooks.reaction_hook import ReactionHook
from mmckpt.monitor import SpikeDetector
from mmckpt.policy.reaction import read_reaction

Action = Union[str, Mapping[str, Any]]


def build_reactions(on_nan: Action, on_spike: Action, on_divergence: Action, switches: Mapping[str, Any],
                    locate_nan: bool | Mapping[str, Any]) -> ReactionHook | None:
    """Read the arguments of ``TrainingMonitorHook``; return the hook that acts on them, or None for warnings only.

    Args:
        on_nan (str or dict): See :func:`mmckpt.policy.reaction.read_reaction`.
        on_spike (str or dict): The same.
        on_divergence (str or dict): The same; it is no matter of one update, so nothing can be skipped.
        switches (dict): What is looked for, by ``'nan'``, ``'spike'`` and ``'divergence'``; what is missing is.
        locate_nan (bool or dict): Whether the cause of a NaN is looked for, see :class:`NanCases`.

    Raises:
        ValueError: If an argument is wrong, or reacts to what is not looked for.
    """
    reactions = {'nan': read_reaction('on_nan', on_nan), 'spike': read_reaction('on_spike', on_spike),
                 'divergence': read_reaction('on_divergence', on_divergence, ('warn', 'stop', 'rollback'))}
    for cause, reaction in reactions.items():
        if reaction.type != 'warn' and switches.get(cause) is False:
            raise ValueError(f'on_{cause}={reaction.type!r} needs {cause}=True: nothing is done about what is not '
                             'looked for.')
    if all(reaction.type == 'warn' for reaction in reactions.values()) and not locate_nan:
        return None
    spike = switches.get('spike')
    detector = SpikeDetector(**(spike if isinstance(spike, Mapping) else {}))
    located = arguments_of_switch('locate_nan', locate_nan, ('max_cases',))
    return ReactionHook(reactions, detector if reactions['spike'].type != 'warn' else None,
                        None if located is None else NanCases(**located))
