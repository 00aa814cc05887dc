"""Mixed precision where there is no accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmckpt.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Runs the forward pass in bfloat16 on the CPU, where MMEngine's wrapper only asserts.

    Parameters, gradients and the optimizer's state stay float32. bfloat16 has
    the exponent range of float32, so no loss scaling is needed and checkpoints
    are exchangeable with those of ``OptimWrapper``.

    Args:
        **kwargs: Arguments of MMEngine's ``OptimWrapper``.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
        >>> with wrapper.optim_context(net):
        ...     net(torch.ones(1, 2)).dtype
        torch.bfloat16
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter bfloat16 autocast, within MMEngine's own gradient accumulation context."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield
