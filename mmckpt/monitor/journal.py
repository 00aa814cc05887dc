"""What an attempt did, line by line, in a file beside its log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

JOURNAL_NAME = 'mmckpt_events.jsonl'


class Journal:
    """Appends events as lines of JSON; each line is whole or missing when the process is killed.

    Args:
        path (Path): The file; its directory must exist.
        clock (callable): Seconds since 1970. Defaults to ``time.time``.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), JOURNAL_NAME)
        >>> Journal(path, clock=lambda: 5.0).note('begin', iter=0, epoch=0)
        >>> read_journal(path)
        [{'event': 'begin', 'time': 5.0, 'iter': 0, 'epoch': 0}]
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def note(self, event: str, **facts: Any) -> None:
        """Append one event with its facts, which must be plain JSON values."""
        line = json.dumps({'event': event, 'time': self._clock(), **facts}, ensure_ascii=False)
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(line + '\n')


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal, oldest first; a file that cannot be read has none, broken lines are left out."""
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return []
    events = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get('event'), str):
            events.append(entry)
    return events
