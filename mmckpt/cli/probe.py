"""Watches a few real iterations of a Runner from inside."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict

from mmckpt.cli.findings import Gradients
from mmckpt.hooks.runner_adapter import host_scalars, unwrapped_model
from mmckpt.loops.multi_val_loop import LoaderChain


class EnoughIterations(Exception):
    """Ends the train loop, whatever its class, after the iterations that were asked for."""


class TrainingProbe(Hook):
    """Notes losses, gradients and times, and ends the training after some iterations.

    Validations are put off while training runs: an epoch of a small data set
    may end within the iterations.

    Args:
        iterations (int): Iterations after which :class:`EnoughIterations` is raised.
    """

    priority = 'LOWEST'

    def __init__(self, iterations: int) -> None:
        self.wanted = iterations
        self.iterations = 0
        self.terms: dict[str, list[float]] = {}
        self.gradients = Gradients()
        self.val_loop: Any = None
        self.validated_batches = 0
        self._waited: list[float] = []
        self._computed: list[float] = []
        self._clock = 0.0

    @property
    def timing(self) -> tuple[float, float] | None:
        """Median seconds an iteration waits for data and computes; the first one, a warm-up, is left out."""
        if self.iterations < 2:
            return None
        return statistics.median(self._waited[1:]), statistics.median(self._computed[1:])

    def before_train(self, runner: Any) -> None:
        """Watch the optimizers, and put validations off."""
        self.val_loop, runner._val_loop = runner.val_loop, None
        parameters = [(n, p) for n, p in unwrapped_model(runner).named_parameters() if p.requires_grad]
        self.gradients.names = [name for name, _ in parameters]
        for optimizer in _optimizers(runner.optim_wrapper):
            optimizer.register_step_pre_hook(lambda *_: self._note_gradients(parameters))
        self._clock = time.perf_counter()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note how long the loader let training wait."""
        now = time.perf_counter()
        self._waited.append(now - self._clock)
        self._clock = now

    def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the loss terms; reading them waits for the device, so the time is a whole iteration's."""
        for name, value in host_scalars(outputs).items():
            self.terms.setdefault(name, []).append(value)
        now = time.perf_counter()
        self._computed.append(now - self._clock)
        self._clock = now
        self.iterations += 1
        if self.iterations == self.wanted:
            raise EnoughIterations

    def after_val_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count the batches that went through the model and the evaluator."""
        self.validated_batches += 1

    def _note_gradients(self, parameters: list[tuple[str, torch.nn.Parameter]]) -> None:
        seen = self.gradients
        seen.steps += 1
        reached = [(name, p.grad) for name, p in parameters if p.grad is not None]
        seen.reached.update(name for name, _ in reached)
        if not reached:
            return
        norms = torch.stack([grad.detach().float().norm() for _, grad in reached]).cpu()
        seen.norms.append(norms.norm().item())
        for (name, _), norm in zip(reached, norms.tolist()):
            if norm > 0:
                seen.alive.add(name)
            if not abs(norm) < float('inf'):
                seen.not_finite.setdefault(name, seen.steps)


class FirstBatches:
    """A data loader that ends after some batches and is the full one in all else.

    Args:
        loader (DataLoader): The full loader.
        batches (int): Batches to give.

    Example:
        >>> short = FirstBatches(torch.utils.data.DataLoader([1, 2, 3], batch_size=2), 1)
        >>> len(short), [batch.tolist() for batch in short], short.batch_size
        (1, [[1, 2]], 2)
    """

    def __init__(self, loader: Any, batches: int) -> None:
        self._loader, self._batches = loader, batches

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self._loader), self._batches)

    def __len__(self) -> int:
        return min(len(self._loader), self._batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def validate_one_batch(runner: Any, probe: TrainingProbe) -> tuple[dict[str, Any] | None, str]:
    """Run the validation loop of the config on its first batch, or on the first one of each loader.

    Args:
        runner (Runner): The runner that has trained.
        probe (TrainingProbe): Holds the loop that was put off.

    Returns:
        tuple: The metrics and an empty note; or None and a note, where the
        batch went through but the metrics cannot be computed from so few samples.
    """
    loop = runner._val_loop = probe.val_loop
    # Each loader of several is asked, so that the metrics of all are known.
    several = getattr(loop.dataloader, 'loaders', None)
    loop.dataloader = (FirstBatches(loop.dataloader, 1) if several is None else
                       LoaderChain([FirstBatches(loader, 1) for loader in several]))
    try:
        return loop.run(), ''
    except Exception as error:
        if probe.validated_batches == 0:
            raise
        return None, f"one batch is too little for this config's metrics ({type(error).__name__}: {error})"


def _optimizers(optim_wrapper: Any) -> list[Any]:
    several = isinstance(optim_wrapper, OptimWrapperDict)
    wrappers = optim_wrapper.optim_wrappers.values() if several else [optim_wrapper]
    return [w.optimizer for w in wrappers if isinstance(w, OptimWrapper)]
