"""Circumstances of a training that its config does not tell."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict

from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.state.digest import digest


def run_facts(runner: Any) -> dict[str, Any]:
    """Return what a later resume compares itself with; numbers, strings and None only.

    Args:
        runner (Runner): A runner whose train loop and optimizer are built.

    Returns:
        dict: ``torch`` (version), ``device``, ``cpu_threads`` (None with an
        accelerator), ``world_size``, ``batch_size`` (a rank's, None if the
        loader does not say), ``samples`` (None if the data set has no
        length), ``parameter_order`` (a digest of the names that the
        optimizer's state belongs to).
    """
    loader = runner.train_dataloader
    device = next((p.device for p in unwrapped_model(runner).parameters()), torch.device('cpu'))
    return {
        'torch': str(torch.__version__),
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type,
        'cpu_threads': torch.get_num_threads() if device.type == 'cpu' else None,
        'world_size': get_world_size(),
        'batch_size': batch_size(loader),
        'samples': length_of(loader.dataset),
        'parameter_order': digest(parameter_names(runner)),
    }


def length_of(data: Any) -> int | None:
    """Return the length of a data set or loader, or None if it has none."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def batch_size(loader: Any) -> int | None:
    """Return the samples in a full batch of this rank, if the loader says."""
    sizes = [getattr(part, 'batch_size', None) for part in (loader, getattr(loader, 'batch_sampler', None))]
    return next((size for size in sizes if isinstance(size, int)), None)


def optim_wrappers(wrapper: Any) -> dict[str, OptimWrapper]:
    """Map names to the wrappers that step; a single one has the name ''."""
    if isinstance(wrapper, OptimWrapperDict):
        return dict(wrapper.items())
    return {'': wrapper} if isinstance(wrapper, OptimWrapper) else {}


def parameter_names(runner: Any) -> dict[str, list[list[str]]]:
    """Return the names of the parameters of each optimizer, group by group, in its order."""
    names = {id(p): name for name, p in unwrapped_model(runner).named_parameters()}
    return {key: [[names.get(id(p), '?') for p in group['params']] for group in wrapper.param_groups]
            for key, wrapper in optim_wrappers(runner.optim_wrapper).items()}
