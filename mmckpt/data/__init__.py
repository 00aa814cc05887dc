"""Data in an order and with augmentation that depend on seed, epoch and position only."""

from mmckpt.data.deterministic_dataset import DeterministicDataset
from mmckpt.data.position import PositionedIndex, mix
from mmckpt.data.resumable_sampler import ResumableSampler

__all__ = ['DeterministicDataset', 'PositionedIndex', 'ResumableSampler', 'mix']
