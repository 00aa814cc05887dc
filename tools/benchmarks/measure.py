"""Interleaved medians, time, bytes and memory of what is measured, and tables in Markdown."""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable

import torch


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes, in seconds; garbage of earlier ones is collected before."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started
    finally:
        gc.enable()


def interleaved(rounds: Sequence[Callable[[], object]], repeats: int) -> list[list[object]]:
    """Run each of several measurements in turn, again and again, so that a busy minute hits them all.

    Args:
        rounds (Sequence[callable]): The measurements; each returns its result.
        repeats (int): How often each runs, after a first time that does not count.

    Returns:
        list[list]: The results of each.
    """
    results: list[list[object]] = [[] for _ in rounds]
    # What is there already is in use. To walk it before each measurement would take longer than most of them.
    gc.freeze()
    try:
        for repeat in range(repeats + 1):
            for one, measured in zip(rounds, results):
                # A Runner is part of reference cycles and keeps a whole state alive until they are collected.
                gc.collect()
                value = one()
                if repeat > 0:
                    measured.append(value)
    finally:
        gc.unfreeze()
    return results


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


class PeakMemory:
    """Measures how far the memory of this process grows above where it was, in bytes.

    The kernel keeps the highest resident size and can be told to forget it
    (Linux only). Memory that the allocator keeps for later is given back
    first, so that a second measurement does not hide in it.

    Example:
        >>> with PeakMemory() as peak:
        ...     block = bytes(50 << 20)
        >>> peak.bytes > 49 << 20
        True
    """

    def __enter__(self) -> PeakMemory:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
        self._before = _status('VmRSS')
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = _status('VmHWM') - self._before


def written_bytes() -> int:
    """Return the bytes that this process has handed to ``write`` so far (Linux only)."""
    return int(re.search(r'wchar: (\d+)', Path('/proc/self/io').read_text()).group(1))


def sync(path: Path) -> None:
    """Make a file, or the files of a directory, leave the page cache for the disk."""
    for file in path.rglob('*') if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


class Stopwatch:
    """Adds up the time, in seconds, and the bytes written in calls that it stands in for."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its calls measured."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            started, written = time.perf_counter(), written_bytes()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started
                self.bytes += written_bytes() - written

        return measured


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown.

    Example:
        >>> print(table(['save', 'ms'], [['stock', 12.5]]))
        | save  | ms   |
        |-------|------|
        | stock | 12.5 |
    """
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in cells]
    return '\n'.join([lines[0], '|' + '|'.join('-' * (width + 2) for width in widths) + '|', *lines[1:]])


def environment(directory: Path) -> str:
    """Return one paragraph: the command, the machine, the disk, the versions, the load and the date."""
    command = shlex.join(['python', f'tools/benchmarks/{Path(sys.argv[0]).name}', *sys.argv[1:]])
    return (f'`{command}`, {datetime.date.today()}. {_cpu()}, {len(os.sched_getaffinity(0))} cores, '
            f'load {os.getloadavg()[0]:.1f} at the start; {_file_system(directory)}; '
            f'Linux {platform.release()}, Python {platform.python_version()}, torch {torch.__version__}.')


def _status(field: str) -> int:
    text = Path('/proc/self/status').read_text()
    return int(re.search(rf'{field}:\s+(\d+) kB', text).group(1)) * 1024


def _cpu() -> str:
    found = re.search(r'model name\s*: (.+)', Path('/proc/cpuinfo').read_text())
    return found.group(1) if found else platform.machine()


def _file_system(directory: Path) -> str:
    mounts = [line.split()[:3] for line in Path('/proc/mounts').read_text().splitlines()]
    path = directory.resolve()
    holding = [mount for mount in mounts if path == Path(mount[1]) or Path(mount[1]) in path.parents]
    device, _, kind = max(holding, key=lambda mount: len(mount[1]))
    return f'{kind} on {device}'
