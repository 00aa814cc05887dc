"""mmckpt: the training-safety layer for MMEngine and OpenMMLab.

Importing it is enough for a stock MMEngine ``Runner`` to resume on torch >=
2.6, where ``torch.load`` refuses MMEngine's own checkpoints.
``mmckpt.load`` gives a model with its weights from any checkpoint file.
"""

from __future__ import annotations

from typing import Any

import mmengine
import torch

from mmckpt._safe_load import allow_mmengine_checkpoints
from mmckpt.versions import check_version

__version__ = '0.1.0'

check_version('torch', torch.__version__)
check_version('mmengine', mmengine.__version__)
allow_mmengine_checkpoints()


def __getattr__(name: str) -> Any:
    if name == 'load':
        # It needs MMEngine's registries, which most who import this package have no use for yet.
        from mmckpt.loading import load
        return load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
