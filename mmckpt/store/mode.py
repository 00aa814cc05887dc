"""Whether to write on a background thread."""

from __future__ import annotations

import os
from logging import Logger
from typing import Any, Literal

import psutil

from mmckpt.store.space import estimate_bytes, megabytes
from mmckpt.store.writer import InlineQueue, JobQueue, ThreadQueue

# A copy of the state, and room for what else the run still allocates.
_MEMORY_FACTOR = 1.2


def choose_queue(async_save: bool | Literal['auto'], state: Any, logger: Logger) -> JobQueue:
    """Return the queue that a store works with.

    Args:
        async_save (bool or 'auto'): 'auto' decides by cores and memory, and says so.
        state (Any): The first state to be saved.
        logger (Logger): Where the decision is said.
    """
    if async_save != 'auto':
        return ThreadQueue() if async_save else InlineQueue()
    needed = int(_MEMORY_FACTOR * estimate_bytes(state))
    decision, why = decide(usable_cores(), needed, psutil.virtual_memory().available)
    logger.info("async_save='auto': checkpoints are written %s, because %s.",
                'in the background' if decision else 'by the training thread', why)
    return ThreadQueue() if decision else InlineQueue()


def decide(cores: int, needed: int, available: int) -> tuple[bool, str]:
    """Decide for or against the background, and say why.

    Args:
        cores (int): Cores that this process may use.
        needed (int): Bytes that staging needs.
        available (int): Bytes of memory that are available.

    Example:
        >>> decide(cores=1, needed=10, available=100)
        (False, 'this process may use one core only')
    """
    if cores < 2:
        return False, 'this process may use one core only'
    if needed > available:
        return False, (f'a copy of the state needs {megabytes(needed)} of memory, and {megabytes(available)} '
                       'are available')
    return True, (f'this process may use {cores} cores, and the {megabytes(needed)} of memory that a copy of '
                  'the state needs are available')


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
