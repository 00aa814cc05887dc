"""Random streams of this process, captured and put back in plain types."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# Random generators of users, by name; they are part of the streams from then on.
_registered: dict[str, Any] = {}


def register_generator(name: str, generator: Any) -> Any:
    """Make a generator of your own part of every checkpoint and of every resume.

    Register it where you make it, on every rank, before training starts, for
    instance in the ``__init__`` of a model, transform or hook. It must live in
    the training process: data workers have copies of their own.

    Args:
        name (str): Under which it is saved; a second one of a name replaces
            the first.
        generator (torch.Generator, numpy.random.Generator or random.Random):
            The generator.

    Returns:
        The generator, to be kept.

    Raises:
        TypeError: If it is none of these.

    Example:
        >>> noise = register_generator('noise', torch.Generator().manual_seed(3))
        >>> state = capture_rng_state()
        >>> first = torch.rand(1, generator=noise)
        >>> _ = restore_rng_state(state)
        >>> torch.equal(first, torch.rand(1, generator=noise))
        True
    """
    if not isinstance(generator, (torch.Generator, np.random.Generator, random.Random)):
        raise TypeError('register_generator takes a torch.Generator, a numpy.random.Generator or a random.Random, '
                        f'but got {type(generator).__name__}.')
    _registered[name] = generator
    return generator


def capture_rng_state() -> dict[str, Any]:
    """Return the state of every global and registered random stream of this process.

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
    state: dict[str, Any] = {
        'python': _python_state(random.getstate()),
        'numpy': _encode(np.random.get_state(legacy=False)),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = [s.cpu() for s in torch.cuda.get_rng_state_all()]
    if hasattr(torch, 'xpu') and torch.xpu.is_available():
        state['xpu'] = [s.cpu() for s in torch.xpu.get_rng_state_all()]
    if torch.backends.mps.is_available():
        state['mps'] = torch.mps.get_rng_state().cpu()
    if _registered:
        state['registered'] = {name: _generator_state(g) for name, g in _registered.items()}
    return state


def rng_state_of(python: tuple[Any, ...], numpy: tuple[Any, ...], cpu: torch.Tensor,
                 cuda: list[torch.Tensor]) -> dict[str, Any]:
    """Return states in the libraries' own forms as :func:`capture_rng_state` would have.

    Args:
        python (tuple): Of ``random.getstate()``.
        numpy (tuple): Of ``numpy.random.get_state()``, a Mersenne twister's.
        cpu (Tensor): Of ``torch.get_rng_state()``.
        cuda (list[Tensor]): Of ``torch.cuda.get_rng_state_all()``; may be empty.
    """
    name, key, position, has_gauss, gauss = numpy
    twister = dict(bit_generator=name, state=dict(key=np.asarray(key, np.uint32), pos=int(position)),
                   has_gauss=int(has_gauss), gauss=float(gauss))
    state = {'python': _python_state(python), 'numpy': _encode(twister), 'torch': cpu}
    return {**state, 'cuda': list(cuda)} if cuda else state


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
    random.setstate(_python_tuple(state['python']))
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
    for name, generator in _registered.items():
        if name in state.get('registered', {}):
            _set_generator_state(generator, state['registered'][name])
            restored.append(name)
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


def _python_state(state: tuple[Any, ...]) -> dict[str, Any]:
    version, internal, gauss_next = state
    return {'version': version, 'internal': torch.tensor(internal, dtype=torch.int64), 'gauss_next': gauss_next}


def _python_tuple(state: dict[str, Any]) -> tuple[Any, ...]:
    return state['version'], tuple(state['internal'].tolist()), state['gauss_next']


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state().cpu()
    if isinstance(generator, random.Random):
        return _python_state(generator.getstate())
    return _encode(generator.bit_generator.state)


def _set_generator_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, random.Random):
        generator.setstate(_python_tuple(state))
    else:
        generator.bit_generator.state = _decode(state)


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
