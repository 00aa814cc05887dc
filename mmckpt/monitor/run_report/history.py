"""The attempts and the checkpoints of a run, from whatever noted them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmckpt.monitor.liveness import is_alive
from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.run import AttemptSpan, Checkpoint
from mmckpt.monitor.run_report.scalars import OWN, ScalarLog

# What the journal notes of the machine, and the factor to the unit in which it is shown.
MEASURED = {'memory': 1e-6, 'gpu_memory': 1e-6, 'gpu_utilization': 1.0}
Events = Sequence[Mapping[str, Any]]


def seconds_of(stamp: str) -> float:
    """Return the time in the name of an attempt's directory, in seconds since 1970."""
    return time.mktime(time.strptime(stamp, '%Y%m%d_%H%M%S'))


def attempts_of(stamps: Sequence[str], logs: Mapping[str, ScalarLog], index: Mapping[str, Any]) -> list[AttemptSpan]:
    """Return the attempts of the last run, oldest first.

    Args:
        stamps (Sequence[str]): Names of the attempts' directories, oldest first.
        logs (Mapping[str, ScalarLog]): What each of them logged.
        index (Mapping): Content of ``mmckpt_index.json``; empty for a stock run.

    Returns:
        list[AttemptSpan]: From the index, or else one a directory.
    """
    noted = index.get('attempts') or []
    if not noted:
        return [AttemptSpan(number, seconds_of(stamp), _last_change(logs[stamp].path), 'not recorded', '',
                            logs[stamp].first_iter) for number, stamp in enumerate(stamps, 1)]
    spans = []
    for attempt in [a for a in noted if a['run'] == noted[-1]['run']]:
        # The directory gets its name when the Runner is built, a moment before the attempt begins.
        stamp = max((s for s in stamps if seconds_of(s) <= attempt['start'] + 1), default=None)
        log = None if stamp is None else logs[stamp]
        how = _how(attempt)
        stop = attempt['stop'] or (None if how == 'running' or log is None else _last_change(log.path))
        spans.append(AttemptSpan(attempt['attempt'], attempt['start'], stop, how,
                                 f"{attempt['host']}:{attempt['pid']}", None if log is None else log.first_iter))
    return spans


def checkpoints_of(index: Mapping[str, Any], events: Events, work_dir: Path) -> list[Checkpoint]:
    """Return the files that were written, oldest first: those dropped since are known from the journal."""
    records = {record['name']: record for record in index.get('records') or []}
    found = {(name, record['iter']): _checkpoint(record, kept=(work_dir / name).exists(), blocked=None)
             for name, record in records.items()}
    for event in events:
        if event['event'] == 'saved':
            key = event['name'], event['iter']
            there = found.get(key)
            roles = there.roles if there else tuple(event['roles'])
            found[key] = _checkpoint({**event, 'roles': roles, 'time': event.get('committed', event['time'])},
                                     there is not None and there.kept, event.get('blocked'))
    if not found:
        return list(_files(work_dir))
    return sorted(found.values(), key=lambda checkpoint: (checkpoint.time, checkpoint.name))


def measured(events: Events) -> dict[str, Curve]:
    """Return memory (MB) and load (percent) of the machine by name, over iterations."""
    found: dict[str, Curve] = {}
    for event in events:
        if event['event'] == 'measured':
            for name, factor in MEASURED.items():
                if isinstance(event.get(name), (int, float)):
                    found.setdefault(OWN + name, Curve()).append(event['iter'], event[name] * factor)
    return found


def _checkpoint(record: Mapping[str, Any], kept: bool, blocked: float | None) -> Checkpoint:
    return Checkpoint(record['name'], record['epoch'], record['iter'], record['time'], record['size'],
                      tuple(record['roles']), kept, blocked)


def _files(work_dir: Path) -> Iterable[Checkpoint]:
    """Look at the files of a stock run, whose names are all that is known."""
    for path in sorted(work_dir.glob('*.pth'), key=lambda p: p.stat().st_mtime):
        number = re.search(r'(epoch|iter)_(\d+)', path.name)
        count = int(number[2]) if number else 0
        by_epoch = number is not None and number[1] == 'epoch'
        status = path.stat()
        yield Checkpoint(path.name, count if by_epoch else 0, 0 if by_epoch else count, status.st_mtime,
                         status.st_size, (), True)


def _how(attempt: Mapping[str, Any]) -> str:
    if attempt['why'] is not None:
        return str(attempt['why'])
    if attempt['host'] != socket.gethostname():
        return f"running or killed on {attempt['host']}"
    return 'running' if is_alive(attempt['pid'], attempt['start']) else 'killed'


def _last_change(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
