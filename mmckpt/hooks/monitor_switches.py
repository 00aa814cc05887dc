"""The switches of the monitor: True, False or a dict of arguments for each detector."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Union

from mmckpt.errors import near_matches
from mmckpt.monitor import Detector, NonFiniteDetector, SpikeDetector

Switch = Union[bool, Mapping[str, Any]]
# By switch, in the order in which they look: NaN first, where there is one, it is the news.
ITER_DETECTORS: dict[str, type] = {
    'nan': NonFiniteDetector,
    'spike': SpikeDetector,
}


def arguments_of_switch(name: str, given: Switch, known: Iterable[str]) -> dict[str, Any] | None:
    """Return the arguments that a switch stands for, or None if it is off.

    Args:
        name (str): Name of the switch.
        given (bool or dict): Its value.
        known (Iterable[str]): Names of the arguments that it takes.

    Raises:
        ValueError: If it is neither, or names an unknown argument.

    Example:
        >>> arguments_of_switch('spike', True, ['factor']), arguments_of_switch('spike', False, ['factor'])
        ({}, None)
    """
    if isinstance(given, bool):
        return {} if given else None
    if not isinstance(given, Mapping):
        raise ValueError(f'{name} must be True, False or a dict of arguments, but got {given!r}.')
    for key in given:
        if key not in known:
            raise ValueError(f'{name} has no argument {key!r}. {near_matches(key, known)}')
    return dict(given)


def build_detectors(kinds: Mapping[str, type], switches: Mapping[str, Switch]) -> dict[str, Detector]:
    """Build the detectors that are switched on, in the order of ``kinds``.

    Args:
        kinds (dict[str, type]): Detector class of each switch.
        switches (dict[str, bool or dict]): What the user gave; a switch that
            is missing is on.

    Raises:
        ValueError: If a value is not a switch or an argument is out of its range.

    Example:
        >>> list(build_detectors({'spike': SpikeDetector}, {'spike': dict(factor=3.0)}))
        ['spike']
    """
    built = {}
    for name, kind in kinds.items():
        arguments = arguments_of_switch(name, switches.get(name, True), inspect.signature(kind).parameters)
        if arguments is not None:
            built[name] = kind(**arguments)
    return built
