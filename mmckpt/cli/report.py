"""``mmckpt report``: one HTML file about one run, or several side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmckpt.cli.console import say, shown_path, warn
from mmckpt.errors import CheckpointNotFoundError, UsageError
from mmckpt.monitor.report import write_atomically
from mmckpt.monitor.run_report import Run, RunReader, to_html
from mmckpt.policy.selection import infer_rule

HELP = 'make one HTML file of the curves, checkpoints and findings of a run, or of several side by side'
EXAMPLES = """  %(prog)s work_dirs/run
  %(prog)s work_dirs/baseline work_dirs/small_lr --out comparison.html"""
REPORT_NAME = 'report.html'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR',
                        help='directory of a run, of mmckpt or stock MMEngine')
    parser.add_argument('--out', metavar='FILE',
                        help=f'the file to write (default: {REPORT_NAME} in WORK_DIR; in the current directory for '
                             'several)')


def run(args: argparse.Namespace) -> int:
    """Write the report and say where."""
    runs = [reader_of(path).read() for path in args.work_dirs]
    name_apart(runs)
    for one in runs:
        if not one.train and not one.val:
            warn(f'{one.work_dir} holds no scalars.json with a line in it (LoggerHook and LocalVisBackend write it)')
    only = Path(args.work_dirs[0]) if len(runs) == 1 else Path()
    out = Path(args.out) if args.out else only / REPORT_NAME
    try:
        write_atomically(out, to_html(runs))
    except OSError as error:
        raise UsageError(f'{out} cannot be written: {error}. Name another file with --out.') from error
    say(f'report in {shown_path(out)} ({out.stat().st_size / 1e3:.0f} kB); it opens in any browser')
    return 0


def reader_of(path: str) -> RunReader:
    """Return what reads a work directory.

    Raises:
        CheckpointNotFoundError: If there is no such directory.
    """
    directory = Path(path)
    if not directory.is_dir():
        what = 'is a file' if directory.exists() else 'does not exist'
        raise CheckpointNotFoundError(f'{path} {what}: pass the work directory of a run (this is {Path.cwd()}).')
    return RunReader(directory, rule_of)


def rule_of(metric: str) -> str | None:
    """Tell whether greater or less is better, or None where a name does not say."""
    try:
        return infer_rule(metric)
    except ValueError:
        return None


def name_apart(runs: list[Run]) -> None:
    """Give runs of the same name the directories above it too."""
    names = [one.name for one in runs]
    for one in runs:
        if names.count(one.name) > 1:
            one.name = '/'.join(Path(one.work_dir).resolve().parts[-2:])
