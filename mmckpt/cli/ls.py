"""``mmckpt ls``: what lies in the directory of a run, without changing or locking it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mmckpt.cli.checkpoint_table import (
    Column,
    print_checkpoint_table,
    print_fitted_table,
    shown_bytes,
    shown_duration,
    shown_roles,
)
from mmckpt.cli.console import say, warn
from mmckpt.cli.directory import Directory, file_id, files_of, read_directory
from mmckpt.cli.soundness import byte_faults, quick_faults
from mmckpt.monitor.liveness import is_alive
from mmckpt.store.checks import stored_size
from mmckpt.store.index import INDEX_NAME, Attempt

HELP = 'list the checkpoints of a work directory and how its trainings ended'
EXAMPLES = """  %(prog)s work_dirs/run
  %(prog)s work_dirs/run --verify
  %(prog)s work_dirs/run --json | jq '.checkpoints[] | select(.fault) | .name'"""

_MOST_ATTEMPTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ls``."""
    parser.add_argument('directory', metavar='WORK_DIR', help='directory with checkpoints')
    parser.add_argument('--verify', action='store_true', help='check every byte; without it only sizes are')
    parser.add_argument('--json', action='store_true', help='print everything that is known as JSON')


def run(args: argparse.Namespace) -> int:
    """Print the list; bad files are named in it and do not change the exit status."""
    try:
        _list(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has seen enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _list(args: argparse.Namespace) -> None:
    directory = read_directory(args.directory)
    faults = byte_faults(directory) if args.verify else quick_faults(directory)
    if args.json:
        print(json.dumps(as_json(directory, faults, args.verify), indent=2))
        return
    _say_index(directory)
    print_checkpoints(directory, faults)
    print_strangers(directory, faults)
    for name, fault in faults.items():
        warn(f'{name} is bad: {fault}')
    _say_sum(directory, args.verify)
    _print_attempts(directory)


def as_json(directory: Directory, faults: Mapping[str, str], verified: bool) -> dict[str, Any]:
    """Return everything that is known of a directory in types that every JSON reader takes.

    Args:
        directory (Directory): The directory.
        faults (Mapping[str, str]): Reason by name of each bad file.
        verified (bool): Whether all bytes were checked, or only sizes.

    Returns:
        dict: Checkpoints newest first, other files, attempts oldest first.
    """
    checkpoints = [
        {**record.to_json(), 'same_file_as': None if record is names[0] else names[0].name,
         'fault': faults.get(record.name)}
        for names in files_of(directory.path, directory.view.records()) for record in names]
    return dict(
        directory=str(directory.path), index=directory.index, current_run=directory.view.index.current_run,
        checked='bytes' if verified else 'size', bytes_on_disk=_disk_use(directory), checkpoints=checkpoints,
        not_in_index=[dict(name=path.name, fault=faults.get(path.name)) for path in directory.strangers],
        attempts=[{**asdict(attempt), 'why': how_it_ended(attempt)}
                  for attempt in directory.view.index.attempts])


def how_it_ended(attempt: Attempt) -> str:
    """Return why an attempt ended, or ``'running'``; where only its host knows, that it is open.

    The index cannot note that a process was killed before the next one starts.
    """
    if attempt.why is not None:
        return attempt.why
    if attempt.host != socket.gethostname():
        return f'running or killed on {attempt.host}'
    return 'running' if is_alive(attempt.pid, attempt.start) else 'killed'


def _say_index(directory: Directory) -> None:
    if directory.index == 'broken':
        warn(f'{INDEX_NAME} is broken: {directory.index_fault}. The files are listed instead; '
             f'`mmckpt rebuild {directory.path}` makes a new index.')
    elif directory.index == 'missing':
        say(f'{directory.path} has no {INDEX_NAME} (stock MMEngine writes none): this is what the files say')


def print_checkpoints(directory: Directory, faults: Mapping[str, str]) -> None:
    """Print a table for each run of a directory, the newest run first."""
    columns = [Column('epoch', lambda r: str(r.epoch)), Column('iter', lambda r: str(r.iter)),
               Column('age', lambda r: shown_duration(time.time() - r.time)),
               Column('size', lambda r: shown_bytes(r.size)),
               Column('valid', lambda r: 'BAD' if r.name in faults else 'ok', per_name=True),
               Column('kept as', shown_roles, per_name=True)]
    records = directory.view.records()
    runs = sorted({record.run for record in records}, reverse=True)
    for number in runs:
        of_run = [record for record in records if record.run == number]
        current = ' (current)' if number == directory.view.index.current_run else ''
        which = f', run {number}{current}' if len(runs) > 1 else ''
        title = f'Checkpoints in {directory.path}{which}, newest first'
        print_checkpoint_table(title, directory.path, of_run, columns)
        print()


def print_strangers(directory: Directory, faults: Mapping[str, str]) -> None:
    """Print a table of the files without a record, if there are any."""
    rows = []
    for path in directory.strangers:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        rows.append([path.name, shown_duration(time.time() - status.st_mtime), shown_bytes(stored_size(path)),
                     'BAD' if path.name in faults else 'ok'])
    if rows:
        title = ('Other files in it, which no training resumes from by itself' if directory.index == 'sound'
                 else 'Other files in it, which hold no training state that can be read')
        print_fitted_table(title, ['name', 'age', 'size', 'valid'], rows)
        print()


def _say_sum(directory: Directory, verified: bool) -> None:
    names = len(directory.view.records())
    files = len(files_of(directory.path, directory.view.records()))
    links = f' under {names} names (= is one more name of the file above)' if names > files else ''
    say(f"{files} {'file' if files == 1 else 'files'}{links}, {shown_bytes(_disk_use(directory))} on disk")
    say('every byte was checked' if verified else 'only sizes were checked; --verify checks every byte')


def _disk_use(directory: Directory) -> int:
    sizes = {}
    named = [directory.path / record.name for record in directory.view.records()]
    for path in [*named, *directory.strangers]:
        try:
            sizes[file_id(path)] = stored_size(path)
        except OSError:
            continue
    return sum(sizes.values())


def _print_attempts(directory: Directory) -> None:
    attempts = directory.view.index.attempts
    rows = []
    for attempt in attempts[-_MOST_ATTEMPTS:]:
        how = how_it_ended(attempt)
        stop = time.time() if how == 'running' else attempt.stop
        rows.append([str(attempt.attempt), str(attempt.run),
                     time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(attempt.start)),
                     '?' if stop is None else shown_duration(stop - attempt.start),
                     f'{attempt.host}:{attempt.pid}', how])
    if rows:
        earlier = len(attempts) - len(rows)
        more = f' ({earlier} earlier ones: --json)' if earlier else ''
        print()
        print_fitted_table(f'Attempts{more}', ['no', 'run', 'start', 'lasted', 'process', 'ended'], rows)
