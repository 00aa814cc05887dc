"""Keeps the random streams of every rank in the checkpoint and puts them back on a resume."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmckpt.data.position import mix
from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.runner_adapter import gather_objects, is_training
from mmckpt.registry import HOOKS
from mmckpt.state.rng import capture_rng_state, restore_rng_state, seed_streams


@HOOKS.register_module()
class RNGStateHook(Hook):
    """Makes a resumed run draw the numbers that the uninterrupted one would have drawn.

    The state of Python's, NumPy's and PyTorch's random streams (all CUDA
    devices included) of every rank goes into each checkpoint; a resume puts
    it back after MMEngine has stopped touching seeds. A validation leaves
    the training streams as it found them, so that a run with and without
    validation draws the same numbers. The seed of the sampler travels too:
    stock samplers take it when they are built, before a resume can set it.

    With ``mmckpt.CheckpointHook`` the streams of all ranks are kept; stock's
    hook calls on rank 0 only, so with it only rank 0's are.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.RNGStateHook')]
    """

    # After every other hook's before_train, which may draw numbers.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._before_validation: dict[str, Any] | None = None
        self._gathered: list[dict[str, Any]] | None = None
        self._loaded: dict[str, Any] | None = None

    def before_val(self, runner: Any) -> None:
        """Remember the training streams before a validation draws from them."""
        if is_training(runner):
            self._before_validation = capture_rng_state()

    def after_val(self, runner: Any) -> None:
        """Put the training streams back."""
        if self._before_validation is not None:
            restore_rng_state(self._before_validation)
            self._before_validation = None

    def gather_checkpoint_state(self, runner: Any) -> None:
        """Collect the streams of all ranks; ``mmckpt.CheckpointHook`` calls it on every rank."""
        self._gathered = gather_objects(self._training_streams())

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the streams, if that was not done already."""
        if 'rng' not in envelope(checkpoint):
            self.add_checkpoint_state(runner, checkpoint)

    def add_checkpoint_state(self, runner: Any, checkpoint: dict) -> None:
        """Put the streams, one entry a rank, and the sampler's seed into the checkpoint."""
        ranks = self._gathered or [self._training_streams()]
        self._gathered = None
        envelope(checkpoint)['rng'] = {'ranks': ranks, 'sampler_seed': _sampler_seed(runner)}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the streams until ``before_train``: MMEngine may still set seeds after this."""
        self.take_checkpoint_state(runner, checkpoint)

    def take_checkpoint_state(self, runner: Any, checkpoint: dict) -> None:
        """Do the same where a strategy loads that does not tell hooks."""
        self._loaded = checkpoint.get('mmckpt', {}).get('rng')

    def before_train(self, runner: Any) -> None:
        """Put the streams of this rank back, if this run is a resume."""
        loaded, self._loaded = self._loaded, None
        if loaded is None or not (runner.iter or runner.epoch):
            return
        sampler = getattr(runner.train_dataloader, 'sampler', None)
        if loaded['sampler_seed'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = loaded['sampler_seed']
        rank = get_rank()
        if rank < len(loaded['ranks']):
            restore_rng_state(loaded['ranks'][rank])
        else:
            # A rank that the checkpoint does not know; the resume banner says so.
            seed = mix(runner.seed, runner.iter, rank)
            torch.manual_seed(seed >> 1)
            seed_streams(seed)

    def _training_streams(self) -> dict[str, Any]:
        return self._before_validation or capture_rng_state()


def _sampler_seed(runner: Any) -> int | None:
    seed = getattr(getattr(runner.train_dataloader, 'sampler', None), 'seed', None)
    return int(seed) if isinstance(seed, int) else None
