"""Lets ``torch.load(weights_only=True)`` read what MMEngine puts into a checkpoint, and no more.

MMEngine's message hub holds ``HistoryBuffer`` objects, NumPy arrays and
NumPy scalars, and a one-cycle schedule holds a function. The names that their
pickles use are allowed here, each bound to the narrowest object that does the
job: a file can build data with them, but call or change nothing else.
"""

from __future__ import annotations

import re
from pickle import UnpicklingError
from typing import Any, Callable

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

_STATISTICS = ('min', 'max', 'current', 'mean')
_ANNEALING = ('_annealing_cos', '_annealing_linear')
# Stands for the scheduler class, whose import takes most of a second; nothing can be called on it.
_ONE_CYCLE = object()


class _HistoryBuffer(HistoryBuffer):
    """Turns into a real ``HistoryBuffer`` once it has its data.

    The real ``__setstate__`` lets a file replace the statistics methods of
    the class, and with them those of every buffer in the process.
    """

    def __setstate__(self, state: dict) -> None:
        names = ('max_length', '_log_history', '_count_history')
        if not isinstance(state, dict) or not all(name in state for name in names):
            raise UnpicklingError(f'Expected a HistoryBuffer with {names}, but got {state!r:.200}.')
        self.__dict__.update({name: state[name] for name in names})
        self._set_default_statistics()
        self.__class__ = HistoryBuffer


def _getattr(owner: Any, name: str) -> Callable:
    if owner is _HistoryBuffer and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    if owner is _ONE_CYCLE and name in _ANNEALING:
        from mmengine.optim.scheduler import OneCycleParamScheduler
        return getattr(OneCycleParamScheduler, name)
    raise UnpicklingError(f'Expected {_STATISTICS} of HistoryBuffer or {_ANNEALING} of a one-cycle schedule, '
                          f'but the file asks for {name!r} of {owner!r}.')


def _empty_bytes(*content: Any) -> bytes:
    # NumPy 1 writes an empty array's data as a call of bytes; a number there would allocate as much.
    if content:
        raise UnpicklingError(f'Expected bytes() without arguments, but got {content!r:.100}.')
    return b''


def _numpy_dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(code, str) or not re.fullmatch(r'[biufcSU]\d+', code):
        raise UnpicklingError(f'Expected a numeric or text dtype, such as f8 or U5, but got {code!r}.')
    # A copy, because the byte order that follows in the file is set on it.
    return np.dtype(code, copy=True)


def _numpy_array(kind: type, shape: tuple, code: Any) -> np.ndarray:
    if kind is not np.ndarray or shape != (0,):
        raise UnpicklingError(f'Expected an empty ndarray to fill, but got {kind!r} of shape {shape!r}.')
    return np.ndarray((0,), np.int8)


def _numpy_scalar(dtype: np.dtype, data: bytes = b'') -> np.generic:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise UnpicklingError(f'Expected the bytes of one NumPy scalar, but got {dtype!r} and {data!r:.100}.')
    return np.ndarray((), dtype, data)[()] if data else dtype.type()


def _safe_globals() -> list[tuple[Any, str]]:
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGSU'}
    named = [(_HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
             (_ONE_CYCLE, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
             (_getattr, 'builtins.getattr'),
             (_empty_bytes, 'builtins.bytes'),
             (np.ndarray, 'numpy.ndarray'),
             (_numpy_dtype, 'numpy.dtype')]
    named += [(kind, f'numpy.dtypes.{kind.__name__}') for kind in dtypes]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        named += [(_numpy_array, f'{module}._reconstruct'), (_numpy_scalar, f'{module}.scalar')]
    return named


def allow_mmengine_checkpoints() -> None:
    """Add the names to the process's allow-list; ``import mmckpt`` does it."""
    torch.serialization.add_safe_globals(_safe_globals())
