"""``mmckpt rebuild``: make the index of a directory anew from the files in it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mmckpt.cli.console import say, warn
from mmckpt.cli.directory import locked, read_directory
from mmckpt.cli.ls import print_checkpoints, print_strangers
from mmckpt.cli.soundness import quick_faults
from mmckpt.errors import CheckpointNotFoundError
from mmckpt.store.backend import LocalBackend
from mmckpt.store.catalog import Catalog
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.intent import INTENT_NAME
from mmckpt.store.rebuild import PATTERN, rebuild_index
from mmckpt.store.record import FOREIGN

HELP = 'make the index of a work directory anew from its files, when it is lost or broken'
EXAMPLES = '  %(prog)s work_dirs/run'

BROKEN_NAME = f'{INDEX_NAME}.broken'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of ``rebuild``."""
    parser.add_argument('directory', metavar='WORK_DIR', help='directory with checkpoints')


def run(args: argparse.Namespace) -> int:
    """Write a new index and print what is in it; a sound one is left as it is."""
    directory = read_directory(args.directory)
    if directory.index != 'sound':
        _rebuild(directory.path)
        directory = read_directory(args.directory)
    else:
        say(f'{INDEX_NAME} of {directory.path} is sound and stays as it is. To make one from the files all '
            'the same, move it away first: metrics, scores, runs and attempts are only in there.')
    faults = quick_faults(directory)
    print_checkpoints(directory, faults)
    print_strangers(directory, faults)
    return 0


def _rebuild(path: Path) -> None:
    with locked(path) as logger:
        say(f'reads every byte of the {PATTERN} files in {path}')
        index = rebuild_index(path, logger)
        if not index.records:
            raise CheckpointNotFoundError(
                f'no {PATTERN} file in {path} is a checkpoint that can be read (the reasons are above): '
                'nothing was changed.')
        broken = (path / INDEX_NAME).exists()
        if broken:
            # A copy: until the new index takes its place, the old one stays.
            shutil.copy2(path / INDEX_NAME, path / BROKEN_NAME)
        Catalog(path, LocalBackend(), logger).commit(index)
        # It belongs to the old index; with the new numbers it would count as news.
        (path / INTENT_NAME).unlink(missing_ok=True)
    say(f'{INDEX_NAME} has {len(index.records)} checkpoints now' +
        (f'; the broken one is kept as {BROKEN_NAME}' if broken else ''))
    if any(record.roles != (FOREIGN,) for record in index.records.values()):
        warn('what only the old index knew is lost: metrics, best scores, runs and attempts')
