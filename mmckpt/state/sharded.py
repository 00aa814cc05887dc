"""Training state that lies in shards on several ranks: written and read by all of them, as one unit.

One adapter of ``torch.distributed.checkpoint`` for models under FSDP2 (``fully_shard``), DTensors and plain modules.
A checkpoint is a directory that appears under its name only when every rank has written its part; it is read on any
number of ranks.
"""

from __future__ import annotations

import functools
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError
from mmckpt.store.backend import LocalBackend

_METADATA = '.metadata'


class PendingSave:
    """A sharded save on its way; until :meth:`wait` returns, the checkpoint does not exist.

    Args:
        target (Path): The name that it will get.
        future (Future, optional): What writes in the background, or None if all is written.
    """

    def __init__(self, target: Path, future: Future | None) -> None:
        self.target = target
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
                _publish(_temporary(self.target), self.target)
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


def save_sharded(directory: str | os.PathLike, model: torch.nn.Module,
                 optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] = (),
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
    temporary = _temporary(target)
    if _rank() == 0:
        _finish_replacement(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    _barrier()
    state = _state_of(model, optimizers, extra or {})
    if async_save and dist.is_initialized():
        group = _group_of_writers(dist.group.WORLD)
        return PendingSave(target, dcp.async_save(state, checkpoint_id=temporary, process_group=group))
    with _alone_or_not():
        dcp.save(state, checkpoint_id=temporary)
    return PendingSave(target, None)


def load_sharded(directory: str | os.PathLike, model: torch.nn.Module,
                 optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] = (),
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
    """
    source = Path(directory)
    if _rank() == 0:
        _finish_replacement(source)
    _barrier()
    if not (source / _METADATA).is_file():
        raise CheckpointNotFoundError(
            f'{source} is not a sharded checkpoint: expected a directory with a file {_METADATA}, which is written '
            'last. Pass a checkpoint that save_sharded(...).wait() has finished.')
    state = _state_of(model, optimizers, extra or {})
    with _alone_or_not():
        dcp.load(state, checkpoint_id=source)
    set_state_dict(model, _listed(optimizers), model_state_dict=state['model'], optim_state_dict=state['optimizer'])
    return state['extra']


@contextmanager
def _alone_or_not() -> Iterator[None]:
    """Let torch find out whether there are other ranks: ``no_dist`` is not known before torch 2.7."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='torch.distributed is .*assuming the intent')
        yield


def _state_of(model: torch.nn.Module, optimizers: Any, extra: dict[str, Any]) -> dict[str, Any]:
    weights, moments = get_state_dict(model, _listed(optimizers))
    return {'model': weights, 'optimizer': moments, 'extra': dict(extra)}


def _listed(optimizers: Any) -> list[torch.optim.Optimizer]:
    return [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else list(optimizers)


def _temporary(target: Path) -> Path:
    return target.with_name(f'.{target.name}.writing')


def _publish(temporary: Path, target: Path) -> None:
    """Make the files durable, then give the directory its name; an older one goes only then."""
    for file in temporary.iterdir():
        _sync(file)
    sync_directory = LocalBackend().sync_directory
    sync_directory(temporary)
    replaced = _replaced(target)
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.rename(target, replaced)
    os.rename(temporary, target)
    sync_directory(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _finish_replacement(target: Path) -> None:
    """Give the new checkpoint its name where a kill came after the old one had lost it."""
    replaced, temporary = _replaced(target), _temporary(target)
    if target.exists() or not replaced.exists():
        return
    # The old one is moved only when the new one is durable; somebody may have removed that since.
    os.rename(temporary if (temporary / _METADATA).is_file() else replaced, target)
    LocalBackend().sync_directory(target.parent)


def _replaced(target: Path) -> Path:
    return target.with_name(f'.{target.name}.replaced')


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.lru_cache(maxsize=1)
def _group_of_writers(world: Any) -> Any:
    """A group for the threads that write: their exchange must not meet that of the training, or both wait for ever."""
    return dist.new_group(backend='gloo')


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def _all_true(here: bool) -> bool:
    if not dist.is_initialized():
        return here
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, here)
    return all(answers)
