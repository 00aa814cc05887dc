"""Random streams of this process, captured and put back in plain types."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture_rng_state() -> dict[str, Any]:
    """Return the state of every global random stream of this process.

    Covers Python's ``random``, NumPy's global stream, PyTorch's CPU generator
    and the generator of every CUDA, XPU and MPS device there is. The result
    holds Python numbers, strings, lists and CPU tensors only, so that
    ``torch.load(weights_only=True)`` reads it.

    Returns:
        dict: To be handed to :func:`restore_rng_state`.

    Example:
        >>> state = capture_rng_state()
        >>> first = random.random(), np.random.rand(), torch.rand(1).item()
        >>> restored = restore_rng_state(state)
        >>> first == (random.random(), np.random.rand(), torch.rand(1).item())
        True
    """
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        'python': {'version': version, 'internal': torch.tensor(internal, dtype=torch.int64),
                   'gauss_next': gauss_next},
        'numpy': _encode(np.random.get_state(legacy=False)),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = [s.cpu() for s in torch.cuda.get_rng_state_all()]
    if hasattr(torch, 'xpu') and torch.xpu.is_available():
        state['xpu'] = [s.cpu() for s in torch.xpu.get_rng_state_all()]
    if torch.backends.mps.is_available():
        state['mps'] = torch.mps.get_rng_state().cpu()
    return state


def restore_rng_state(state: dict[str, Any]) -> list[str]:
    """Put the random streams back to a captured state.

    Tensors are moved to the CPU first, whatever ``map_location`` the file was
    read with. A stream of a device that this machine lacks is left out.

    Args:
        state (dict): What :func:`capture_rng_state` returned.

    Returns:
        list[str]: Names of the streams restored, such as ``['python', 'numpy',
        'torch']``.
    """
    python = state['python']
    random.setstate((python['version'], tuple(python['internal'].tolist()), python['gauss_next']))
    np.random.set_state(_decode(state['numpy']))
    torch.set_rng_state(state['torch'].cpu())
    restored = ['python', 'numpy', 'torch']
    for name in ('cuda', 'xpu'):
        backend = getattr(torch, name, None)
        if name in state and backend is not None and backend.is_available():
            for device, device_state in enumerate(state[name][:backend.device_count()]):
                backend.set_rng_state(device_state.cpu(), device)
            restored.append(name)
    if 'mps' in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state['mps'].cpu())
        restored.append('mps')
    return restored


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Leave the random streams as they were, whatever the body draws.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> with preserved_rng():
        ...     noise = torch.rand(3)
        >>> torch.equal(torch.rand(3), noise)
        True
    """
    state = capture_rng_state()
    try:
        yield
    finally:
        restore_rng_state(state)


def _encode(value: Any) -> Any:
    """Turn NumPy's state dict into plain types; arrays become int64 tensors with their dtype."""
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        # uint64 keys (Philox, SFC64) do not fit int64: keep their bit pattern.
        return {'dtype': str(value.dtype), 'bits': torch.from_numpy(
            value.view(np.int64) if value.dtype == np.uint64 else value.astype(np.int64))}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {'dtype', 'bits'}:
        bits = value['bits'].cpu().numpy()
        return bits.view(np.uint64) if value['dtype'] == 'uint64' else bits.astype(value['dtype'])
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    return value


def seed_streams(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's CPU stream, at a few microseconds.

    ``torch.manual_seed`` would also visit every device (366 us against 3).

    Args:
        seed (int): 64 well-mixed bits, such as :func:`mmckpt.data.mix` gives.
    """
    random.seed(seed)
    np.random.seed(seed >> 32)
    torch.default_generator.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


@contextmanager
def isolated_streams() -> Iterator[None]:
    """Let the body seed and draw as it likes without a trace in the training streams.

    Unlike :func:`preserved_rng` it covers the CPU streams only, and in a data
    worker, whose streams are nobody else's, it does nothing.
    """
    if torch.utils.data.get_worker_info() is not None:
        yield
        return
    streams = _cpu_streams()
    try:
        yield
    finally:
        _set_cpu_streams(streams)


class SideStreams:
    """CPU streams of their own for code that draws from the global ones.

    Inside a ``with`` block the global streams are these; outside they are as
    if the block had never run. Each block goes on where the last one ended.

    Args:
        seed (int): Seed of the side streams, 64 bits.

    Example:
        >>> side = SideStreams(1)
        >>> with side: first = random.random()
        >>> with side: second = random.random()
        >>> with SideStreams(1): again = random.random()
        >>> first == again, first == second
        (True, False)
    """

    def __init__(self, seed: int) -> None:
        with isolated_streams():
            seed_streams(seed)
            self._inside = _cpu_streams()
        self._outside: Any = None

    def __enter__(self) -> None:
        self._outside = _cpu_streams()
        _set_cpu_streams(self._inside)

    def __exit__(self, *exc_info: Any) -> None:
        self._inside = _cpu_streams()
        _set_cpu_streams(self._outside)


def _cpu_streams() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_cpu_streams(streams: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(streams[0])
    np.random.set_state(streams[1])
    torch.set_rng_state(streams[2])
