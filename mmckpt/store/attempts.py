"""The history of processes that trained into a directory, and which run each one belongs to."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmckpt.store.index import Attempt, Index


def begin_attempt(index: Index, directory: Path, resumed_from: Any, shared: bool,
                  event: dict[str, Any] | None = None) -> tuple[Index, Attempt]:
    """Add this process to the history.

    Args:
        index (Index): The index of ``directory``.
        directory (Path): Where the checkpoints lie.
        resumed_from (str or Path, optional): The file that training resumes from.
        shared (bool): Whether another store of this process is still open here;
            if not, attempts without an end were killed.
        event (dict, optional): The rollback that it begins with. Defaults to None.

    Returns:
        tuple: The new index and the attempt.
    """
    before = index.attempts if shared else tuple(
        replace(attempt, why='killed') if attempt.why is None else attempt for attempt in index.attempts)
    numbers = [0, *(a.attempt for a in before), *(r.attempt for r in index.records.values())]
    run = _run_of(index, directory, resumed_from)
    attempt = Attempt(max(numbers) + 1, run, socket.gethostname(), os.getpid(), start=time.time(), event=event)
    return replace(index, attempts=(*before, attempt)), attempt


def end_attempt(index: Index, number: int, why: str) -> Index:
    """Note in the history how an attempt ended."""
    return replace(index, attempts=tuple(
        replace(attempt, stop=time.time(), why=why) if attempt.attempt == number else attempt
        for attempt in index.attempts))


def _run_of(index: Index, directory: Path, resumed_from: Any) -> int:
    if resumed_from is not None:
        path = Path(resumed_from)
        if str(path) == path.name or os.path.realpath(path.parent) == os.path.realpath(directory):
            record = index.records.get(path.name)
            return record.run if record is not None else max(1, index.last_run)
    return index.last_run + 1
