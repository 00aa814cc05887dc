"""Ways to save one training state, each as a timed part and a part that the training does not wait for."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
import torch.distributed.checkpoint as dcp
from measure import sync
from mmengine.runner import Runner
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from mmckpt.policy.retention import KeepAll, KeepLast
from mmckpt.progress import Progress
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore
from mmckpt.store.tree import tensors_of

# Said by the thread of DCP's asynchronous save, whatever `no_dist` says.
warnings.filterwarnings('ignore', 'torch.distributed is disabled')


@dataclass(frozen=True)
class Contestant:
    """One way to save.

    Args:
        save (callable): Saves; returns when the training may go on.
        settle (callable): Waits for what is still under way, makes the bytes
            leave the page cache, and removes them; not timed.
        durable (str): When the bytes are on the device: with the call, in the
            background, or nobody knows.
    """

    save: Callable[[], object]
    settle: Callable[[], object]
    durable: str = 'no'


def state_of(runner: Runner) -> dict[str, Any]:
    """Return weights and optimizer state of a trained Runner; its tensors are the live ones."""
    return {'state_dict': runner.model.state_dict(), 'optimizer': runner.optim_wrapper.state_dict()}


@contextmanager
def contestants(runner: Runner, directory: Path) -> Iterator[dict[str, Contestant]]:
    """Yield every way to save whose package is installed, by name.

    Args:
        runner (Runner): A Runner that has trained a step.
        directory (Path): An empty directory for the files.
    """
    state = state_of(runner)
    with ExitStack() as stack:
        found = {
            'memcpy floor': _floor(state),
            'raw write + fsync': _raw(directory / 'raw', state),
            'torch.save': _path(directory / 'torch', lambda path: torch.save(state, path)),
            'safetensors': _safetensors(directory / 'safetensors', state),
            'MMEngine Runner.save_checkpoint': _path(
                directory / 'stock', lambda path: runner.save_checkpoint(str(path.parent), path.name)),
            'Lightning': _lightning(directory / 'lightning', state),
            'Lightning async': _lightning_async(directory / 'lightning_async', state),
            'torch DCP': _path(
                directory / 'dcp', lambda path: dcp.save(state, checkpoint_id=path, no_dist=True), 'yes'),
            'torch DCP async': _dcp_async(directory / 'dcp_async', state),
            'mmckpt': stack.enter_context(_store(directory / 'sync', state, async_save=False)),
            'mmckpt async': stack.enter_context(_store(directory / 'async', state, async_save=True)),
        }
        yield {name: contestant for name, contestant in found.items() if contestant is not None}


def _floor(state: dict[str, Any]) -> Contestant:
    tensors = tensors_of(state)
    buffers = [torch.empty_like(tensor) for tensor in tensors]
    return Contestant(lambda: torch._foreach_copy_(buffers, tensors), lambda: None, durable='-')


def _raw(directory: Path, state: dict[str, Any]) -> Contestant:
    def save(path: Path) -> None:
        with open(path, 'wb', buffering=0) as file:
            for tensor in tensors_of(state):
                data = memoryview(tensor.reshape(-1).numpy()).cast('B')
                while data:
                    data = data[file.write(data):]
            os.fsync(file.fileno())

    return _path(directory, save, 'yes')


def _path(directory: Path, save: Callable[[Path], object], durable: str = 'no',
          wait: Callable[[], object] = lambda: None) -> Contestant:
    """Save to a new name each time; the one before is gone by then."""
    directory.mkdir(parents=True)
    numbers = itertools.count()

    def settle() -> None:
        wait()
        for path in directory.iterdir():
            sync(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return Contestant(lambda: save(directory / f'{next(numbers)}.pth'), settle, durable)


def _safetensors(directory: Path, state: dict[str, Any]) -> Contestant | None:
    if importlib.util.find_spec('safetensors') is None:
        return None
    from safetensors.torch import save_file
    tensors = {str(i): tensor for i, tensor in enumerate(tensors_of(state))}
    return _path(directory, lambda path: save_file(tensors, path))


def _lightning(directory: Path, state: dict[str, Any]) -> Contestant | None:
    if importlib.util.find_spec('lightning') is None:
        return None
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    plugin = TorchCheckpointIO()
    return _path(directory, lambda path: plugin.save_checkpoint(state, path))


def _lightning_async(directory: Path, state: dict[str, Any]) -> Contestant | None:
    if importlib.util.find_spec('lightning') is None:
        return None
    from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
    plugin = AsyncCheckpointIO(TorchCheckpointIO())
    # Its only way to wait ends the thread; the next save starts another, which costs 0.1 ms.
    return _path(directory, lambda path: plugin.save_checkpoint(state, path), wait=plugin.teardown)


def _dcp_async(directory: Path, state: dict[str, Any]) -> Contestant:
    # One stager for all saves, so that its buffers are reused; the other options need CUDA.
    stager = DefaultStager(StagingOptions(False, False, False, False))
    futures = []

    def save(path: Path) -> None:
        futures.append(dcp.async_save(state, checkpoint_id=path, async_stager=stager, no_dist=True))

    def wait() -> None:
        while futures:
            futures.pop().result()

    return _path(directory, save, 'later', wait)


@contextmanager
def _store(directory: Path, state: dict[str, Any], async_save: bool) -> Iterator[Contestant]:
    store = CheckpointStore(directory, async_save=async_save, stage=Snapshot() if async_save else None)
    store.open()
    counts = itertools.count(1)

    def save() -> None:
        count = next(counts)
        store.write(f'{count}.pth', state, progress=Progress(count, count), roles=('periodic',))

    def settle() -> None:
        store.wait()
        store.retention = KeepLast(1)
        store.prune()
        store.retention = KeepAll()

    yield Contestant(save, settle, 'later' if async_save else 'yes')
    store.close('finished')
