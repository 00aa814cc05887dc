"""The switches of the monitor: True, False or a dict of arguments for each detector."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Union

from mmckpt.errors import near_matches
from mmckpt.monitor import (
    Detector,
    DivergenceDetector,
    GpuIdleDetector,
    GradientDetector,
    IdleParametersDetector,
    LearningRateDetector,
    LossTermsDetector,
    MemoryGrowthDetector,
    NonFiniteDetector,
    OverfittingDetector,
    PlateauDetector,
    SlowDataDetector,
    SlowingDetector,
    SpikeDetector,
    ZeroMetricDetector,
)

Switch = Union[bool, Mapping[str, Any]]
# By what they look at, then by switch, in the order in which they look: NaN first, it is the news.
DETECTORS: dict[str, dict[str, type]] = {
    'iter': {'nan': NonFiniteDetector, 'spike': SpikeDetector, 'divergence': DivergenceDetector},
    'block': {'loss_terms': LossTermsDetector, 'gradients': GradientDetector},
    'round': {'plateau': PlateauDetector, 'zero_metric': ZeroMetricDetector, 'overfitting': OverfittingDetector},
    'probe': {'learning_rate': LearningRateDetector, 'idle_parameters': IdleParametersDetector,
              'slow_data': SlowDataDetector, 'slowing': SlowingDetector, 'memory': MemoryGrowthDetector,
              'gpu_idle': GpuIdleDetector},
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


def check_switches(switches: Iterable[str]) -> None:
    """Refuse a switch that turns nothing on or off with a ``ValueError``."""
    known = [name for group in DETECTORS.values() for name in group]
    for name in switches:
        if name not in known:
            raise ValueError(f'There is no detector {name!r}. {near_matches(name, known)}')


def build_detectors(switches: Mapping[str, Switch], rule_of: Callable[[str], str | None]
                    ) -> dict[str, dict[str, Detector]]:
    """Build the detectors that are switched on, by what they look at.

    Args:
        switches (dict[str, bool or dict]): What the user gave; a switch that
            is missing is on.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for a
            metric, for the detectors that want to know.

    Raises:
        ValueError: If a value is not a switch or an argument is out of its range.

    Example:
        >>> list(build_detectors({'nan': False, 'spike': dict(factor=3.0)}, lambda name: None)['iter'])
        ['spike', 'divergence']
    """
    built: dict[str, dict[str, Detector]] = {group: {} for group in DETECTORS}
    for group, kinds in DETECTORS.items():
        for name, kind in kinds.items():
            parameters = set(inspect.signature(kind).parameters)
            arguments = arguments_of_switch(name, switches.get(name, True), parameters - {'rule_of'})
            if arguments is not None:
                extra = {'rule_of': rule_of} if 'rule_of' in parameters else {}
                built[group][name] = kind(**arguments, **extra)
    return built
