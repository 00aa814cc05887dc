"""All that the monitor measures in a runner while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmckpt.hooks.monitor_gradients import GradientWatch
from mmckpt.hooks.monitor_lr import LearningRateWatch
from mmckpt.hooks.monitor_probes import PROBE_ITERS, IterationClock, Probes
from mmckpt.hooks.monitor_values import HostValues
from mmckpt.hooks.monitor_weights import WeightWatch
from mmckpt.monitor import IdleParametersDetector


class TrainingWatch:
    """Values of each iteration, and measurements now and then.

    Args:
        runner (Runner): The runner, right before it trains.
        hook (Hook): The hook that watches.
        idle (Detector, optional): The detector of parameters without
            gradient; None if it is off.
    """

    def __init__(self, runner: Any, hook: Any, idle: Any) -> None:
        self.values = HostValues(runner, hook)
        self.clock = IterationClock()
        self._probes = Probes(runner)
        self.rate = LearningRateWatch(runner)
        self.weights = WeightWatch(runner)
        self._gradients = GradientWatch(idle.iters, idle.interval) if isinstance(
            idle, IdleParametersDetector) else None

    def close(self) -> None:
        """Leave the model alone, because another watch begins."""
        if self._gradients is not None:
            self._gradients.detach()

    def before_iter(self, runner: Any) -> bool:
        """Note that a batch is there; return whether a schedule has just raised the learning rate at one stroke."""
        self.clock.before_iter()
        if self._gradients is not None:
            self._gradients.before_iter(runner)
        return self.rate.has_jumped(runner)

    def after_iter(self, runner: Any, iters: int) -> Sequence[tuple[str, Mapping[str, float]]]:
        """Return what was measured, by the switch of the detector that wants it; mostly nothing.

        Args:
            runner (Runner): The runner.
            iters (int): Completed iterations.
        """
        self.clock.after_iter()
        counts = None if self._gradients is None else self._gradients.after_iter()
        if counts is None and iters % PROBE_ITERS:
            return ()
        measured = [] if counts is None else [('idle_parameters', counts)]
        return measured if iters % PROBE_ITERS else [*measured, *self._probe(runner)]

    def _probe(self, runner: Any) -> Iterator[tuple[str, Mapping[str, float]]]:
        times = self.clock.take()
        if times is not None:
            yield 'slow_data', times
            yield 'slowing', times
        yield from self._probes.look(runner).items()
