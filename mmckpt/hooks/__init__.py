"""Hooks: thin adapters from Runner events to the parts of mmckpt."""

from mmckpt.hooks.checkpoint_hook import CheckpointHook
from mmckpt.hooks.detailed_loss_log_hook import DetailedLossLogHook
from mmckpt.hooks.early_stopping_hook import EarlyStoppingHook
from mmckpt.hooks.preemption_hook import PreemptionHook
from mmckpt.hooks.rng_state_hook import RNGStateHook
from mmckpt.hooks.training_monitor_hook import TrainingMonitorHook
from mmckpt.hooks.val_loss_hook import ValLossHook

__all__ = [
    'CheckpointHook',
    'DetailedLossLogHook',
    'EarlyStoppingHook',
    'PreemptionHook',
    'RNGStateHook',
    'TrainingMonitorHook',
    'ValLossHook',
]
