"""How far the weights have moved, from a few values of each parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parameter import is_lazy

from mmckpt.hooks.monitor_gradients import is_readable
from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.monitor.learning import PRETRAINED, WEIGHT_CHANGE

# Values of each parameter that are looked at.
SAMPLE = 64


class WeightWatch:
    """Compares the trainable weights with what they were when the watch began.

    On a GPU an answer is copied without waiting for it, and given at the next
    call. Weights that are split over ranks are not looked at.

    Args:
        runner (Runner): The runner, right before it trains.
    """

    def __init__(self, runner: Any) -> None:
        model = unwrapped_model(runner)
        initialised = getattr(model, 'init_cfg', None)
        self._pretrained = bool(runner._load_from and not runner._resume) or (
            isinstance(initialised, dict) and initialised.get('type') == 'Pretrained')
        self._start = [(p, _sample(p)) for p in model.parameters() if _is_plain(p)] if is_readable(
            runner.model) else []
        self._copy: tuple[torch.Tensor, Any] | None = None

    def look(self) -> dict[str, float]:
        """Return what is known of the weights, by the names that the monitor gives it."""
        known = {PRETRAINED: float(self._pretrained)}
        copied, self._copy = self._copy, self._measure()
        if self._copy is not None and self._copy[1] is None:
            copied = self._copy
        if copied is not None and (copied[1] is None or copied[1].query()):
            known[WEIGHT_CHANGE] = float(copied[0])
        return known

    def _measure(self) -> tuple[torch.Tensor, Any] | None:
        if not self._start:
            return None
        pairs = [(_sample(p), start) for p, start in self._start if p.requires_grad]
        if not pairs:
            return torch.zeros(()), None
        device = pairs[0][1].device
        now, start = (torch.cat([values.to(device) for values in column]) for column in zip(*pairs))
        change = torch.linalg.vector_norm(now - start) / torch.linalg.vector_norm(start)
        if device.type != 'cuda':
            return change, None
        copy, done = change.to('cpu', non_blocking=True), torch.cuda.Event()
        done.record()
        return copy, done


def _is_plain(parameter: torch.Tensor) -> bool:
    # A lazy layer has no values yet, and a DTensor only some of them.
    return (not is_lazy(parameter) and type(parameter.detach()) is torch.Tensor and parameter.is_floating_point()
            and parameter.numel() > 0)


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    """Copy some of the values of a parameter, evenly spread."""
    values = parameter.detach().reshape(-1)
    return values[::-(-len(values) // SAMPLE)].to(torch.float32, copy=True)
