"""Judges every update between the backward pass and the optimizer's step, and can keep it from being applied."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.nn.utils import get_total_norm

from mmckpt.hooks.runner_adapter import mean_over_ranks


@dataclass(frozen=True)
class Window:
    """What one update was made of: a batch, or all batches of an accumulation window.

    Args:
        start (int): Completed iterations when its first batch came.
        loss (float): Mean total loss of its batches and ranks.
        gradient (float): Norm of its gradients, as they are (AMP: scaled); their largest magnitude where the
            norm overflows.
        scaled (bool): Whether a loss scaler answers non-finite gradients by lowering its scale, as it often does.
    """

    start: int
    loss: float
    gradient: float
    scaled: bool

    @property
    def non_finite(self) -> bool:
        """Whether loss or gradient is not finite, and it is not a loss scaler's ordinary search for its scale."""
        return not math.isfinite(self.loss) or not (math.isfinite(self.gradient) or self.scaled)


class StepGuard:
    """Stands between the backward pass and the step of an ``OptimWrapper``.

    MMEngine has no event there, so ``backward`` and ``step`` are wrapped on
    the instance. All batches of an accumulation window are one unit. Where an
    update is dropped, the model's buffers (BN statistics) are again what they
    were before its first batch. With AMP the loss scaler is updated in any
    case. All ranks decide alike, from the mean loss over the ranks.

    Costs: the host waits for the device once an iteration, the norm of the
    gradients is taken (4 ms of one core for 26 million parameters, a third of
    an SGD step), and the buffers are copied once an update (0.2 ms for those
    of 53 BN layers).

    Args:
        model (nn.Module): The model, unwrapped.
        wrapper (OptimWrapper): Its optimizer wrapper.
        judge (callable): Takes a :class:`Window`, returns whether its update is dropped.
        on_bad_loss (callable): Called after the backward pass of a batch whose loss is not finite.

    Raises:
        TypeError: If ``wrapper`` is not an ``OptimWrapper`` of one optimizer.
    """

    def __init__(self, model: Any, wrapper: Any, judge: Callable[[Window], bool],
                 on_bad_loss: Callable[[], None]) -> None:
        # The one of several optimizers is a subclass of the one of one.
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            raise TypeError(f'the updates of {type(wrapper).__name__} cannot be judged before they are applied')
        self.wrapper = wrapper
        self.judge = judge
        self.on_bad_loss = on_bad_loss
        self.loss = 0.0
        self.buffers = BufferCopy(model)
        self._done = 0
        self._start: int | None = None
        self._pending: torch.Tensor | None = None
        self._step, self._backward = wrapper.step, wrapper.backward
        wrapper.step, wrapper.backward = self._guarded_step, self._guarded_backward

    def remove(self) -> None:
        """Give the wrapper its own methods back."""
        del self.wrapper.step, self.wrapper.backward

    def before_iter(self, done: int) -> None:
        """Note the state before a batch; call it in ``before_train_iter``.

        Args:
            done (int): Completed iterations.
        """
        self._done = done
        if self._start is None:
            self._start = done
            self.buffers.keep()

    def window_state(self) -> dict[str, Any] | None:
        """Return what this rank knows of the accumulation window at hand, or None between two windows."""
        if self._start is None:
            return None
        return {'start': self._start, 'loss': self.loss, 'buffers': self.buffers.state()}

    def load_window_state(self, state: dict[str, Any] | None) -> None:
        """Go on inside a window."""
        self.forget_window()
        if state is not None:
            self._start, self.loss = state['start'], state['loss']
            self.buffers.load_state(state['buffers'])

    def forget_window(self) -> None:
        """Begin a new window, because the state has been put back."""
        self._start, self._pending, self.loss = None, None, 0.0

    def _guarded_backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        # Read before the backward pass is waited for: one wait serves loss and gradients.
        value = mean_over_ranks(loss.detach().float())
        self._pending = value if self._pending is None else self._pending + value
        self._backward(loss, **kwargs)
        if not self.wrapper.should_update():
            self._settle(float(self._pending))

    def _settle(self, loss: float) -> None:
        self._pending = None
        self.loss += loss
        if not math.isfinite(loss):
            self.on_bad_loss()

    def _guarded_step(self, **kwargs: Any) -> None:
        loss, gradient = self._read()
        self._settle(loss)
        scaler = getattr(self.wrapper, 'loss_scaler', None)
        scaled = scaler is not None and scaler.is_enabled() and scaler.get_scale() > 1
        # None at the second update of a train step that makes several.
        start = self._done if self._start is None else self._start
        drop = self.judge(Window(start, self.loss, gradient, scaled))
        self.forget_window()
        if not drop:
            self._step(**kwargs)
            return
        self.buffers.put_back()
        if scaler is not None:
            with _without_update(self.wrapper.optimizer):
                self._step(**kwargs)

    def _read(self) -> tuple[float, float]:
        gradients = [_values(p.grad) for group in self.wrapper.optimizer.param_groups
                     for p in group['params'] if p.grad is not None]
        if not gradients:
            return float(0.0 if self._pending is None else self._pending), 0.0
        norm = mean_over_ranks(get_total_norm(gradients).float())
        pending = torch.zeros_like(norm) if self._pending is None else self._pending.to(norm.device)
        loss, gradient = torch.stack([pending.reshape(()), norm]).tolist()
        if not math.isfinite(gradient):
            # A sum of squares may overflow; the largest magnitude is finite if and only if every element is, but
            # takes ten times as long.
            gradient = float(mean_over_ranks(get_total_norm(gradients, norm_type=math.inf).float()))
        return loss, gradient


class BufferCopy:
    """A copy of a model's buffers, made anew at little cost.

    Args:
        model (nn.Module): The model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._groups: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
        self._known: list[int] = []

    def keep(self) -> None:
        """Copy the buffers as they are."""
        with torch.no_grad():
            for own, kept in self._pairs():
                torch._foreach_copy_(kept, own)

    def state(self) -> list[torch.Tensor]:
        """Return the copies, on the CPU."""
        return [tensor.to('cpu', copy=True) for _, kept in self._groups for tensor in kept]

    def load_state(self, copies: list[torch.Tensor]) -> None:
        """Take copies that were saved."""
        for kept, saved in zip([tensor for _, group in self._pairs() for tensor in group], copies):
            kept.copy_(saved)

    def put_back(self) -> None:
        """Give the buffers the values of the copy."""
        with torch.no_grad():
            for own, kept in self._groups:
                torch._foreach_copy_(own, kept)

    def _pairs(self) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
        buffers = [buffer for buffer in self._model.buffers() if buffer.numel()]
        if [id(buffer) for buffer in buffers] != self._known:
            by_kind: dict[Any, list[torch.Tensor]] = {}
            for buffer in buffers:
                by_kind.setdefault((buffer.device, buffer.dtype), []).append(buffer)
            self._groups = [(own, [torch.empty_like(b) for b in own]) for own in by_kind.values()]
            self._known = [id(buffer) for buffer in buffers]
        return self._groups


@contextmanager
def _without_update(optimizer: Any) -> Iterator[None]:
    """Let a loss scaler do its part while the optimizer leaves the weights alone."""
    own = optimizer.__dict__.get('step')
    optimizer.step = lambda *args, **kwargs: None
    try:
        yield
    finally:
        if own is None:
            del optimizer.step
        else:
            optimizer.step = own


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient
