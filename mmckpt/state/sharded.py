"""Training state that lies in shards on several ranks: written and read by all of them, as one unit.

One adapter of ``torch.distributed.checkpoint`` for models under FSDP2 (``fully_shard``), DTensors and plain modules.
A checkpoint is a directory that appears under its name only when every rank has written its part; it is read on any
number of ranks.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError
from mmckpt.store.backend import LocalBackend, dead_temporaries, rename
from mmckpt.store.unit import MANIFEST, StagedCheckpoint, is_unit, seal, stage, unit_fault

_METADATA = '.metadata'
Optimizers = Union[torch.optim.Optimizer, Iterable[torch.optim.Optimizer]]


class PendingSave:
    """A sharded save on its way; until :meth:`wait` returns, the checkpoint does not exist.

    Args:
        target (Path): The name that it will get.
        staged (StagedCheckpoint): The hidden directory that is being written.
        future (Future, optional): What writes in the background, or None if all is written.
    """

    def __init__(self, target: Path, staged: StagedCheckpoint, future: Future | None) -> None:
        self.target = target
        self._staged = staged
        self._future = future
        self._published = False

    @property
    def done(self) -> bool:
        """Whether this rank has written its part."""
        return self._future is None or self._future.done()

    def wait(self) -> Path:
        """Wait for all ranks and give the directory its name; call it on every rank.

        Returns:
            Path: The checkpoint.

        Raises:
            Exception: What went wrong on this rank while it wrote; nothing is published then.
        """
        if self._published:
            return self.target
        failure: BaseException | None = None
        try:
            if self._future is not None:
                self._future.result()
        except BaseException as error:
            failure = error
        if _all_true(failure is None) and _rank() == 0:
            try:
                _publish(self._staged, self.target)
            except OSError as error:
                failure = error
        # The others wait here for the name, and hear of it if rank 0 could not give it.
        everywhere = _all_true(failure is None)
        if failure is not None:
            raise failure
        if not everywhere:
            raise CorruptCheckpointError(f'{self.target} is not made: another rank could not write its part.')
        self._published = True
        return self.target


def save_sharded(directory: str | os.PathLike, model: torch.nn.Module, optimizers: Optimizers = (),
                 extra: dict[str, Any] | None = None, *, async_save: bool = False) -> PendingSave:
    """Write the state of a model and its optimizers, each rank its own shards; call it on every rank.

    Args:
        directory (str or Path): The checkpoint, on a file system that all ranks see. One of
            that name is replaced when the new one is whole.
        model (nn.Module): Under ``fully_shard``, or plain.
        optimizers (Optimizer or Iterable[Optimizer]): Its optimizers. Defaults to ().
        extra (dict, optional): Further tensors and plain values, equal on all ranks. Defaults to None.
        async_save (bool): Copy the state and write in the background, in a gloo group of
            its own. Defaults to False.

    Returns:
        PendingSave: Call ``wait()`` on every rank; without it there is no checkpoint.
    """
    target = Path(directory)
    staged = None
    if _rank() == 0:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean_up(target)
        staged = stage(LocalBackend(), target)
    staged = _from_rank0(staged)
    return PendingSave(target, staged, write_shards(staged.path, model, optimizers, extra, async_save=async_save))


def write_shards(directory: str | os.PathLike, model: torch.nn.Module, optimizers: Optimizers = (),
                 extra: dict[str, Any] | None = None, *, async_save: bool = False) -> Future | None:
    """Write as :func:`save_sharded` does, but right into a directory, which somebody else makes a checkpoint of.

    Args:
        directory (str or Path): Made if it is not there.
        model (nn.Module): As there.
        optimizers (Optimizer or Iterable[Optimizer]): As there.
        extra (dict, optional): As there.
        async_save (bool): As there.

    Returns:
        Future: Of this rank, if it writes in the background; on rank 0 it ends when all ranks have written.
    """
    state = _state_of(model, optimizers, extra or {})
    if async_save and dist.is_initialized():
        group = _group_of_writers(dist.group.WORLD)
        return dcp.async_save(state, checkpoint_id=directory, process_group=group)
    with _alone_or_not():
        dcp.save(state, checkpoint_id=directory)
    return None


def load_sharded(directory: str | os.PathLike, model: torch.nn.Module, optimizers: Optimizers = (),
                 extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Put a checkpoint into a model and its optimizers, on any number of ranks; call it on every rank.

    Args:
        directory (str or Path): What :func:`save_sharded` made, on this or another number of ranks.
        model (nn.Module): Sharded as this job has it.
        optimizers (Optimizer or Iterable[Optimizer]): Its optimizers. Defaults to ().
        extra (dict, optional): The keys to read of what was saved as ``extra``, with values of their kind. Defaults
            to None.

    Returns:
        dict: ``extra`` as it was saved.

    Raises:
        CheckpointNotFoundError: If there is no whole checkpoint of that name.
        CorruptCheckpointError: If a byte of it is not what was written.
    """
    source = Path(directory)
    fault = None
    if _rank() == 0:
        _clean_up(source)
        fault = unit_fault(source, None) if is_unit(source) else None
    fault = _from_rank0(fault)
    if not is_unit(source) and not (source / _METADATA).is_file():
        raise CheckpointNotFoundError(
            f'{source} is not a sharded checkpoint: expected a directory with a file {MANIFEST} (or {_METADATA}, if '
            'torch has written it), which is written last. Pass one that save_sharded(...).wait() has finished.')
    if fault is not None:
        raise CorruptCheckpointError(f'{source} is not what was written there: {fault}. Use another checkpoint.')
    return read_shards(source, model, optimizers, extra)


def read_shards(directory: str | os.PathLike, model: torch.nn.Module, optimizers: Optimizers = (),
                extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read as :func:`load_sharded` does, from a directory whose bytes somebody else has checked."""
    state = _state_of(model, optimizers, extra or {})
    with _alone_or_not():
        dcp.load(state, checkpoint_id=directory)
    set_state_dict(model, _listed(optimizers), model_state_dict=state['model'], optim_state_dict=state['optimizer'])
    return state['extra']


@contextmanager
def _alone_or_not() -> Iterator[None]:
    """Let torch find out whether there are other ranks: ``no_dist`` is not known before torch 2.7."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='torch.distributed is .*assuming the intent')
        yield


def shard_model(model: torch.nn.Module, device_type: str, units: Iterable[torch.nn.Module] = ()) -> None:
    """Make a model that has equal weights on all ranks a sharded one; rank 0's are taken.

    Args:
        model (nn.Module): On its device.
        device_type (str): ``'cuda'``, ``'cpu'``...
        units (Iterable[nn.Module]): Modules in it that are gathered each on its own. Defaults to ().
    """
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor, 0)
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    for module in (*units, model):
        fully_shard(module, mesh=mesh)


def load_whole(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Put the weights of a checkpoint file into a sharded model, as far as they fit; call it on every rank.

    Args:
        model (nn.Module): The model.
        weights (dict): Whole tensors by name, on every rank.

    Returns:
        list[str]: Names, of the model or of the file, that have no counterpart of their shape.
    """
    own = model.state_dict()
    fit = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    # It adds to what it is given.
    set_model_state_dict(model, dict(fit), options=StateDictOptions(full_state_dict=True, strict=False))
    return sorted((own.keys() | weights.keys()) - fit.keys())


def _state_of(model: torch.nn.Module, optimizers: Any, extra: dict[str, Any]) -> dict[str, Any]:
    weights, moments = get_state_dict(model, _listed(optimizers))
    return {'model': weights, 'optimizer': moments, 'extra': dict(extra)}


def _listed(optimizers: Any) -> list[torch.optim.Optimizer]:
    return [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else list(optimizers)


def _publish(staged: StagedCheckpoint, target: Path) -> None:
    """Make the directory durable, then give it its name; an older one goes only then."""
    backend = LocalBackend()
    seal(backend, staged)
    rename(backend, staged.path, target)
    backend.sync_directory(target.parent)


def _clean_up(target: Path) -> None:
    """Finish a replacement in which a process was killed, and remove what it left of a save."""
    backend = LocalBackend()
    left = [path for path in dead_temporaries(target.parent) if path.name.startswith(f'.{target.name}.')]
    whole = sorted((path for path in left if is_unit(path) and unit_fault(path, None) is None),
                   key=lambda path: path.name.startswith(f'.{target.name}.old.'))
    if whole and not target.exists():
        backend.replace(whole[0], target)
    for path in left:
        backend.remove(path)


@functools.lru_cache(maxsize=1)
def _group_of_writers(world: Any) -> Any:
    """A group for the threads that write: their exchange must not meet that of the training, or both wait for ever."""
    return dist.new_group(backend='gloo')


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _from_rank0(value: Any) -> Any:
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _all_true(here: bool) -> bool:
    if not dist.is_initialized():
        return here
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, here)
    return all(answers)
