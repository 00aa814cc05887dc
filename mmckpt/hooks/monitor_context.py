"""What the monitor reads from a runner: its present settings, and how its training ended."""

from __future__ import annotations

from typing import Any

from mmengine.optim import AmpOptimWrapper

from mmckpt.errors import StoppedByMonitor
from mmckpt.monitor import TrainingContext


def training_context(runner: Any) -> TrainingContext:
    """Read the settings that advice refers to from a runner in training."""
    wrapper = runner.optim_wrapper
    lrs = [float(lr) for name, group in wrapper.get_lr().items() if not name.endswith('base_lr')
           for lr in group]
    amp = isinstance(wrapper, AmpOptimWrapper)
    return TrainingContext(
        lr=max(lrs, default=None),
        max_norm=(getattr(wrapper, 'clip_grad_kwargs', None) or {}).get('max_norm'),
        batch_size=getattr(runner.train_dataloader, 'batch_size', None),
        num_workers=getattr(runner.train_dataloader, 'num_workers', None),
        amp_dtype=str(wrapper.cast_dtype or 'float16').replace('torch.', '') if amp else None)


def describe_end(runner: Any, reason: str, error: BaseException | None) -> str:
    """Say in words how a training ended."""
    if reason == 'exception':
        return f'ended by an exception: {type(error).__name__}: {error}'
    if isinstance(error, KeyboardInterrupt):
        return 'ended by Ctrl-C (SIGINT)'
    if isinstance(error, StoppedByMonitor):
        return f'stopped by the monitor: {error}'
    if isinstance(error, SystemExit):
        return 'ended by SIGTERM' if error.code == 143 else f'ended by SystemExit with status {error.code}'
    early = getattr(runner.train_loop, 'stop_training', False)
    return 'finished early: a hook stopped the training' if early else 'finished'
