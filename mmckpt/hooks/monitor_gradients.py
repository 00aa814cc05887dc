"""Counts which parameters get gradients, in a few iterations out of many."""

from __future__ import annotations

import functools
from typing import Any

from mmengine.model import MMDistributedDataParallel, is_model_wrapper

from mmckpt.hooks.runner_adapter import unwrapped_model


class GradientWatch:
    """Watches the gradients of all parameters in ``iters`` iterations, every ``interval``.

    MMEngine sets gradients to None in the train step itself, so autograd is
    asked to tell when it has made one. No value is read, so no device is
    waited for; between the looks nothing is attached.

    Args:
        iters (int): Length of a look, in iterations.
        interval (int): Iterations from one look to the next.
    """

    def __init__(self, iters: int, interval: int) -> None:
        self.iters, self.interval = iters, interval
        self._passed = 0
        self._counts: dict[str, float] = {}
        self._handles: list[Any] = []

    def before_iter(self, runner: Any) -> None:
        """Begin a look if one is due."""
        if self._passed % self.interval == 0 and is_readable(runner.model):
            self.detach()
            for name, parameter in unwrapped_model(runner).named_parameters():
                if parameter.requires_grad:
                    self._counts[name] = 0.0
                    self._handles.append(parameter.register_post_accumulate_grad_hook(
                        functools.partial(self._count, name)))
        self._passed += 1

    def after_iter(self) -> dict[str, float] | None:
        """Return the gradients that each parameter had, at the end of a look; None at all other times."""
        if not self._handles or self._passed % self.interval != self.iters % self.interval:
            return None
        counts = self._counts
        self.detach()
        # If there was none at all, they are made where this watch cannot see them.
        return counts if any(counts.values()) else None

    def _count(self, name: str, parameter: Any) -> None:
        self._counts[name] += 1

    def detach(self) -> None:
        """End a look."""
        for handle in self._handles:
            handle.remove()
        self._counts, self._handles = {}, []


def is_readable(model: Any) -> bool:
    """Whether the parameters of a model, or of what it wraps, are whole: most wrappers split or replace them."""
    return not is_model_wrapper(model) or isinstance(model, MMDistributedDataParallel)
