"""How much a file may cost whoever looks into it."""

from __future__ import annotations

import time
from typing import Callable

from mmckpt.errors import CorruptCheckpointError

# A state of 200,000 tensors needs about a tenth of it.
_OPERATIONS = 60_000_000
_VALUES = 3_000_000
_BYTES = 256 << 20
_SECONDS = 5.0


class Budget:
    """Counts what reading a file costs, and ends it when it is out of proportion.

    Args:
        clock (callable): Seconds that only grow. Defaults to ``time.thread_time``: what others
            do on a busy machine makes no file hostile.

    Example:
        >>> budget = Budget()
        >>> budget.take(300 << 20)
        Traceback (most recent call last):
        ...
        mmckpt.errors.CorruptCheckpointError: its small values hold more than 268435456 bytes; ...
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._end = clock() + _SECONDS
        self._operations = 0
        self._values = 0
        self._bytes = 0

    def step(self) -> None:
        """Count one operation."""
        self._operations += 1
        if not self._operations & 1023:
            if self._operations > _OPERATIONS:
                raise _too_much(f'it needs more than {_OPERATIONS} operations')
            if self._clock() > self._end:
                raise _too_much(f'its structure takes more than {_SECONDS:g} s to read')

    def value(self, weight: int = 1) -> None:
        """Count a new object, or one as large as several."""
        self._values += weight
        if self._values > _VALUES:
            raise _too_much(f'it makes more than {_VALUES} objects')

    def take(self, nbytes: int) -> None:
        """Count bytes that are copied into memory."""
        self._bytes += nbytes
        if self._bytes > _BYTES:
            raise _too_much(f'its small values hold more than {_BYTES} bytes')


def _too_much(reason: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(f'{reason}; no checkpoint does, so it is broken or hostile')
