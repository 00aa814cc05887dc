"""torchdata's StatefulDataLoader from a config."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader, IterableDataset

from mmckpt.extras import import_extra

_NAME = 'StatefulDataLoader'


def built_loader(dataloader: Any, seed: int | None) -> Any:
    """Build a training loader that a config wants to be torchdata's.

    Args:
        dataloader (DataLoader or dict): With ``type='StatefulDataLoader'`` a
            config with MMEngine's keys; ``sampler`` may be absent, and
            ``snapshot_every_n_steps`` is torchdata's. Anything else is
            returned as it is, to be built by MMEngine.
        seed (int, optional): Seed of the run.

    Returns:
        DataLoader or dict: The loader, or what was given.

    Raises:
        ValueError: If ``type`` names anything else.
        ImportError: If torchdata is not installed.

    Example:
        >>> train_dataloader = dict(
        ...     type='StatefulDataLoader', batch_size=32, num_workers=4,
        ...     dataset=dict(type='MyStream', urls=['shard-000.tar']))
    """
    if not isinstance(dataloader, dict) or 'type' not in dataloader:
        return dataloader
    cfg = copy.deepcopy(dict(dataloader))
    kind = cfg.pop('type')
    name = kind if isinstance(kind, str) else kind.__name__
    if name.rpartition('.')[2] != _NAME:
        raise ValueError(f"train_dataloader.type: expected '{_NAME}' or no type (MMEngine builds a DataLoader "
                         f'then), but got {name!r}. Hand the Runner another loader as an object.')
    snapshots = cfg.pop('snapshot_every_n_steps', 1)
    own_init = 'worker_init_fn' in cfg
    stock = Runner.build_dataloader(dict(dict(sampler=None), **cfg), seed=seed)
    return _as_stateful(stock, snapshots, stock.worker_init_fn if own_init else None)


def _as_stateful(stock: DataLoader, snapshots: int, worker_init_fn: Any) -> Any:
    """Build the same loader of torchdata's class.

    MMEngine's own ``worker_init_fn`` would seed the workers alike in every
    pass; without it their streams come from the loader's base seed.
    """
    stateful = getattr(import_extra('torchdata.stateful_dataloader', extra='torchdata'), _NAME)
    order: dict[str, Any] = dict(batch_size=stock.batch_size, drop_last=stock.drop_last)
    if not isinstance(stock.dataset, IterableDataset):
        order['sampler'] = stock.sampler
        if stock.batch_size is None and stock.batch_sampler is not None:
            order = dict(batch_sampler=stock.batch_sampler)
    workers = {key: getattr(stock, key) for key in ('num_workers', 'persistent_workers', 'timeout',
                                                    'multiprocessing_context', 'pin_memory')}
    if stock.num_workers:
        workers['prefetch_factor'] = stock.prefetch_factor
    return stateful(stock.dataset, collate_fn=stock.collate_fn, worker_init_fn=worker_init_fn,
                    snapshot_every_n_steps=snapshots, **order, **workers)
