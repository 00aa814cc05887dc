"""Store: how checkpoints are written durably, indexed, verified and read back."""

from mmckpt.store.find import FoundCheckpoint, find_checkpoint, split_spec
from mmckpt.store.loader import load_checkpoint
from mmckpt.store.record import Record
from mmckpt.store.store import CheckpointStore
from mmckpt.store.unit import StagedCheckpoint
from mmckpt.store.view import StoreView

__all__ = [
    'CheckpointStore', 'FoundCheckpoint', 'Record', 'StagedCheckpoint', 'StoreView', 'find_checkpoint',
    'load_checkpoint', 'split_spec',
]
