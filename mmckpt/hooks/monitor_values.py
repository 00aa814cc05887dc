"""The scalars of an iteration, taken from where they are on the host already."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.optim import AmpOptimWrapper

from mmckpt.hooks.runner_adapter import host_scalars

GRAD_NORM = 'grad_norm'


class HostValues:
    """Reads the outputs of a train step, and the gradient norm where MMEngine computes one.

    MMEngine's ``RuntimeInfoHook`` has moved each output to the host for the
    message hub; they are read there, so that a GPU is not waited for once
    more. Where that hook does not come first, the outputs themselves are read.

    Args:
        runner (Runner): The runner, before its first iteration.
        hook (Hook): The hook that reads.
    """

    def __init__(self, runner: Any, hook: Any) -> None:
        before = runner.hooks[:runner.hooks.index(hook)] if hook in runner.hooks else []
        self._in_hub = any(isinstance(other, RuntimeInfoHook) for other in before)
        # The loss scaler makes norms infinite on purpose to find its scale, and skips those steps.
        self._scaled = isinstance(runner.optim_wrapper, AmpOptimWrapper)
        # After a resume the last norm of the checkpoint is there, which was counted before it was made.
        norms = runner.message_hub.log_scalars.get('train/' + GRAD_NORM)
        self._norms: Any = None if norms is None else norms._log_history
        self._scalars: Any = None
        self._names: Any = None
        self._buffers: list[tuple[str, Any]] = []
        # Entries that came after the hub had been filled.
        self._others: list[str] = []

    def __call__(self, runner: Any, outputs: Mapping[str, Any] | None) -> dict[str, float]:
        """Return the scalars by name, in the model's order, and ``grad_norm`` last."""
        scalars = runner.message_hub.log_scalars
        if self._in_hub and outputs:
            # A resume puts other histories into the hub, and in another mapping.
            if scalars is not self._scalars or tuple(outputs) != self._names:
                self._find(scalars, outputs)
            values = {name: buffer._log_history.item(-1) for name, buffer in self._buffers}
            if self._others:
                values.update(host_scalars({name: outputs[name] for name in self._others}))
        else:
            values = host_scalars(outputs)
        norms = scalars.get('train/' + GRAD_NORM)
        # Each update of a history makes a new array: the same one is the norm of an earlier step.
        if norms is not None and norms._log_history is not self._norms:
            self._norms = norms._log_history
            norm = self._norms.item(-1)
            if math.isfinite(norm) or not self._scaled:
                values[GRAD_NORM] = norm
        return values

    def _find(self, scalars: Any, outputs: Mapping[str, Any]) -> None:
        self._scalars, self._names = scalars, tuple(outputs)
        keys = {name: f'train/{name}' for name in outputs}
        self._buffers = [(name, scalars[key]) for name, key in keys.items() if key in scalars]
        self._others = [name for name, key in keys.items() if key not in scalars]
