"""Train loops that resume anywhere, and a validation over several loaders."""

from mmckpt.loops.multi_val_loop import MultiValLoop
from mmckpt.loops.train_loops import EpochBasedTrainLoop, IterBasedTrainLoop

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop', 'MultiValLoop']
