"""mmckpt: the training-safety layer for MMEngine and OpenMMLab.

Importing it is enough for a stock MMEngine ``Runner`` to resume on torch >=
2.6, where ``torch.load`` refuses MMEngine's own checkpoints.
"""

from mmckpt._safe_load import allow_mmengine_checkpoints

__version__ = '0.1.0'

allow_mmengine_checkpoints()
