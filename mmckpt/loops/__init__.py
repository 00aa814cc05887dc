"""Train loops that resume anywhere."""

from mmckpt.loops.train_loops import EpochBasedTrainLoop, IterBasedTrainLoop

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']
