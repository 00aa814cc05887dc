"""Joins the processes of a distributed job, with or without accelerators."""

from __future__ import annotations

import datetime
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_main_process
from mmengine.utils.dl_utils import set_multi_processing

from mmckpt.cli.config import type_name
from mmckpt.errors import MMCkptError, UsageError
from mmckpt.hooks.runner_adapter import broadcast_object, leave_group

T = TypeVar('T')

_LAUNCHER_VARIABLES = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE', 'LOCAL_RANK': 'LOCAL_RANK'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'},
    'mpi': {'RANK': 'OMPI_COMM_WORLD_RANK', 'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
            'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK'},
}


@contextmanager
def process_group(cfg: Config, launcher: str) -> Iterator[None]:
    """Be part of the job's process group inside the block.

    MMEngine would join it when the Runner is built. Joining here lets rank 0
    decide things for all before that, and works without an accelerator, where
    MMEngine calls ``torch.cuda.set_device`` and wraps the model for a CUDA
    device: there the backend is gloo and the wrapper gets no device.

    Args:
        cfg (Config): Gets ``launcher`` and, without an accelerator, the backend and the wrapper.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        UsageError: If the launcher's environment variables are not there.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        yield
        return
    absent = [v for v in _LAUNCHER_VARIABLES[launcher].values() if v not in os.environ]
    if absent:
        raise UsageError(
            f"--launcher {launcher} needs the environment variables {', '.join(absent)}, which its launcher "
            'sets. Start with tools/dist_train.sh CONFIG GPUS (torchrun) or tools/slurm_train.sh.')
    if get_device() == 'cpu':
        prepare_for_cpu(cfg)
    env_cfg = cfg.get('env_cfg') or {}
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    if get_device() == 'cpu':
        _join_with_gloo(launcher, env_cfg['dist_cfg'])
    else:
        init_dist(launcher, **env_cfg.get('dist_cfg', {}), **_store_of_restart())
    try:
        yield
    except BaseException:
        # NCCL is left to the exit: taking it down waits for ranks that may still be in a collective.
        if torch_dist.get_backend() == 'gloo':
            leave_group()
        raise
    leave_group()


def decided_by_rank0(decide: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on all ranks; call it on all ranks.

    An :class:`MMCkptError` is raised on rank 0, which reports it; the other
    ranks leave with the same exit status, silently.
    """
    failure, result = None, None
    if is_main_process():
        try:
            result = decide()
        except MMCkptError as error:
            failure = error
    failed, result = broadcast_object((failure is not None, result))
    if failure is not None:
        raise failure
    if failed:
        # The launcher ends all processes once one has left; rank 0 gets the time to say why.
        time.sleep(1)
        raise SystemExit(2)
    return result


def prepare_for_cpu(cfg: Config) -> None:
    """Choose a backend and a model wrapper that work without an accelerator.

    Example:
        >>> cfg = Config(dict(find_unused_parameters=True))
        >>> prepare_for_cpu(cfg)
        >>> cfg.env_cfg.dist_cfg.backend, cfg.model_wrapper_cfg.device_ids
        ('gloo', None)
    """
    env_cfg = dict(cfg.get('env_cfg') or {})
    cfg.env_cfg = dict(env_cfg, dist_cfg=dict(env_cfg.get('dist_cfg') or {}, backend='gloo'))
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper = cfg.model_wrapper_cfg
    if type_name(wrapper).endswith('DistributedDataParallel') or 'type' not in wrapper:
        # The Runner's own default is [LOCAL_RANK], which DDP refuses for a module on the CPU.
        wrapper.setdefault('device_ids', None)
    if type_name(cfg.get('runner_type')) == 'FlexibleRunner':
        strategy = dict(cfg.get('strategy') or dict(type='DDPStrategy'))
        if type_name(strategy) == 'DDPStrategy' and strategy.get('model_wrapper') is None:
            cfg.strategy = dict(strategy, model_wrapper=wrapper)


def _join_with_gloo(launcher: str, dist_cfg: dict[str, Any]) -> None:
    for name, source in _LAUNCHER_VARIABLES[launcher].items():
        os.environ[name] = os.environ[source]
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_slurm_node()
    os.environ.setdefault('MASTER_PORT', str(dist_cfg.get('port', 29500)))
    timeout = dist_cfg.get('timeout')
    torch_dist.init_process_group(
        'gloo', timeout=None if timeout is None else datetime.timedelta(seconds=timeout), **_store_of_restart())


def _store_of_restart() -> dict[str, Any]:
    """Give a group that torchrun has restarted keys of its own in torchrun's store.

    torch 2.13 keeps one store over all restarts, where a new process may find
    the address of one that died: one restart in four hung. On several nodes,
    whose agents may count differently, ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``
    in the environment of torchrun is the way out.
    """
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if attempt == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, world_size = next(torch_dist.rendezvous('env://'))
    return dict(store=torch_dist.PrefixStore(f'attempt_{attempt}', store), rank=rank, world_size=world_size)


def _first_slurm_node() -> str:
    nodes = subprocess.run(['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']], text=True,
                           stdout=subprocess.PIPE, check=True)
    return nodes.stdout.split()[0]
