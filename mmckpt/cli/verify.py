"""``mmckpt verify``: check every byte of checkpoints, without changing or locking anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmckpt.cli.console import say
from mmckpt.cli.directory import Directory, load_index, read_directory, view_of
from mmckpt.cli.soundness import Target, byte_faults, faults_of, targets_of
from mmckpt.errors import CheckpointNotFoundError
from mmckpt.store import find_checkpoint, split_spec
from mmckpt.store.index import INDEX_NAME, Index
from mmckpt.store.record import Record
from mmckpt.store.unit import is_unit

HELP = 'check every byte of a checkpoint, or of all in a directory'
EXAMPLES = """  %(prog)s work_dirs/run
  %(prog)s work_dirs/run/epoch_10.pth && echo sound"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of ``verify``."""
    parser.add_argument('path', metavar='WORK_DIR|FILE',
                        help='a checkpoint (also WORK_DIR@best:METRIC), or a directory with checkpoints')


def run(args: argparse.Namespace) -> int:
    """Print a line for each bad file; return 0 only if there is none."""
    named = split_spec(args.path)
    if named is not None:
        # Every byte of it is checked when it is found.
        found = find_checkpoint(*named)
        say(f'{found.path} verifies' if not found.note else f'{found.note}; it verifies')
        return 0 if not found.note else 1
    path = Path(args.path)
    if path.is_dir() and not is_unit(path):
        return _verify_directory(read_directory(path))
    if not path.exists():
        raise CheckpointNotFoundError(
            f'{path} does not exist: pass a checkpoint, or a directory with some '
            f'(this is {Path.cwd()}).')
    return _verify_file(path)


def _verify_directory(directory: Directory) -> int:
    targets = targets_of(directory)
    if not targets:
        raise CheckpointNotFoundError(
            f'{directory.path} holds no checkpoints yet, only {INDEX_NAME}: there is nothing to verify.')
    faults = byte_faults(directory)
    if directory.index == 'broken':
        faults[INDEX_NAME] = f'{directory.index_fault}; mmckpt rebuild {directory.path} makes a new one'
    for name, fault in faults.items():
        print(f'BAD {directory.path / name}: {fault}')
    without = sum(1 for target in targets if not isinstance(target, Record) or not target.digest)
    bad = len(faults) - (INDEX_NAME in faults)
    say(f'{bad} of {len(targets)} checkpoints are bad' if bad else f'all {len(targets)} checkpoints verify')
    if without:
        say(f'{without} of them were checked by their own checksums: no digest of them is known')
    return 1 if faults else 0


def _verify_file(path: Path) -> int:
    index, _ = load_index(path.parent)
    view = view_of(path.parent, index or Index())
    record = view.find(path.name)
    target: Target = path if record is None else record
    for fault in faults_of(view, [target]).values():
        print(f'BAD {path}: {fault}')
        return 1
    by_itself = isinstance(target, Path) or not target.digest
    say(f'{path} verifies' + (' (by its own checksums: no digest is known)' if by_itself else ''))
    return 0
