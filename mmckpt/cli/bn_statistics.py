"""Statistics of batch normalisation for weights that were never trained as they are."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmckpt.cli.console import say
from mmckpt.hooks.runner_adapter import unwrapped_model


@torch.no_grad()
def recompute_bn_statistics(runner: Any, weights: dict[str, Any], batches: int) -> dict[str, Any]:
    """Return weights whose batch normalisation knows the data: means over training batches.

    Only the normalisation layers are in training mode, so that dropout and
    the like do not disturb the statistics.

    Args:
        runner (Runner): Its model and training loader are used.
        weights (dict): A state dict of the model.
        batches (int): Training batches to run.

    Returns:
        dict: The weights with new statistics, on the CPU; as they were where
        the model has no such layer.
    """
    model = unwrapped_model(runner)
    model.load_state_dict(weights, strict=False)
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        say('--update-bn: the model has no batch normalisation with statistics')
        return weights
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        # None is the plain mean over all batches.
        layer.momentum = None
        layer.train()
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=runner.seed)
    for batch in itertools.islice(loader, batches):
        data = model.data_preprocessor(batch, True)
        model._run_forward(data, mode='loss')
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    model.eval()
    return {key: value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value
            for key, value in model.state_dict().items()}
