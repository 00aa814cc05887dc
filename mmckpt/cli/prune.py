"""``mmckpt prune``: drop old checkpoints of a work directory by the policies of the training."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from mmckpt.cli.checkpoint_table import Column, print_checkpoint_table, shown_bytes
from mmckpt.cli.console import say, warn
from mmckpt.cli.directory import locked, read_directory, view_of
from mmckpt.cli.pruning import Plan, choose_rules, plan_run, witnesses
from mmckpt.cli.soundness import faults_of
from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, UsageError
from mmckpt.store.backend import LocalBackend
from mmckpt.store.catalog import Catalog
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.record import Record
from mmckpt.store.space import bytes_on_disk
from mmckpt.store.view import StoreView

HELP = 'drop old checkpoints of a work directory; the newest one always stays'
EXAMPLES = """  %(prog)s work_dirs/run --keep-last 3 --dry-run
  %(prog)s work_dirs/run --keep-last 3 --keep-best 2
  %(prog)s work_dirs/run --keep-best 1 --rule my_score=less"""


@dataclass(frozen=True)
class _Run:
    number: int
    records: list[Record]
    plan: Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prune``."""
    parser.add_argument('directory', metavar='WORK_DIR', help='directory with checkpoints')
    parser.add_argument('--keep-last', type=_count, metavar='N',
                        help='periodic checkpoints to keep, the newest ones (default: all)')
    parser.add_argument('--keep-best', type=_count, metavar='N',
                        help='best checkpoints to keep by each metric (default: all)')
    parser.add_argument('--rule', type=_rule, action='append', default=[], metavar='METRIC=less|greater',
                        help='which values of a metric are better, where its name does not tell')
    parser.add_argument('--all-runs', action='store_true',
                        help='prune each run in the directory (default: the current one, or the last)')
    parser.add_argument('--dry-run', action='store_true', help='only show what would go')


def run(args: argparse.Namespace) -> int:
    """Show what goes and what stays, and drop what goes; return 1 if a file could not be removed."""
    if args.keep_last is None and args.keep_best is None:
        raise UsageError('say what to keep: --keep-last N (periodic checkpoints), --keep-best N (by each '
                         'metric), or both.')
    if args.rule and args.keep_best is None:
        raise UsageError('--rule is for --keep-best, which is missing.')
    path = _indexed(args.directory)
    if args.dry_run:
        _prepare(read_directory(path).view, args)
        return 0
    with locked(path) as logger:
        catalog = Catalog(path, LocalBackend(), logger)
        _indexed(path)
        catalog.load()
        drop = _prepare(view_of(path, catalog.index), args)
        return _drop(catalog, drop) if drop else 0


def _indexed(path: str | Path) -> Path:
    directory = read_directory(path)
    if directory.index != 'sound':
        which = 'a broken' if directory.index == 'broken' else 'no'
        raise UsageError(
            f'{path} has {which} {INDEX_NAME}, which tells what each file is kept for: '
            f'`mmckpt rebuild {path}` makes one from the files. Those of stock MMEngine are never dropped.')
    return directory.path


def _prepare(view: StoreView, args: argparse.Namespace) -> list[Record]:
    """Plan, show the plan and prove that something valid stays; return what goes, oldest first."""
    runs = _plan(view, args)
    drop = [record for run in runs for record in run.plan.drop]
    for run in runs:
        _print_run(view, run)
    for run in runs:
        _check_witnesses(view, run)
    kept = sum(len(run.plan.kept) for run in runs)
    if not drop:
        say(f'nothing to drop: all {kept} checkpoints stay')
    elif args.dry_run:
        freed = bytes_on_disk([view.directory / record.name for record in drop])
        say(f'{len(drop)} of {len(drop) + kept} checkpoints would go, {shown_bytes(freed)} would be freed; '
            'nothing was changed (--dry-run)')
    return drop


def _plan(view: StoreView, args: argparse.Namespace) -> list[_Run]:
    there = [record for record in view.records() if (view.directory / record.name).exists()]
    chosen = there if args.all_runs else [r for r in there if r.run == view.index.current_run]
    if not chosen:
        hint = f' The {len(there)} of earlier runs are pruned with --all-runs.' if there else ''
        raise CheckpointNotFoundError(
            f'{view.directory} holds no checkpoints of run {view.index.current_run}, the current one.{hint}')
    rules = choose_rules(chosen, dict(args.rule)) if args.keep_best is not None else {}
    for metric, rule in rules.items():
        say(f'best by {metric}: {rule} is better' + (' (--rule)' if metric in dict(args.rule) else ''))
    pointed = _pointed_at(view.directory)
    runs = []
    for number in sorted({record.run for record in chosen}):
        records = [record for record in chosen if record.run == number]
        runs.append(_Run(number, records, plan_run(records, args.keep_last, args.keep_best, rules, pointed)))
    return runs


def _pointed_at(directory: Path) -> str | None:
    try:
        return Path((directory / 'last_checkpoint').read_text(encoding='utf-8').strip()).name
    except (OSError, UnicodeDecodeError):
        return None


def _print_run(view: StoreView, run: _Run) -> None:
    kept = run.plan.kept
    columns = [Column('epoch', lambda r: str(r.epoch)), Column('iter', lambda r: str(r.iter)),
               Column('size', lambda r: shown_bytes(r.size)),
               Column('plan', lambda r: 'stays' if r.name in kept else 'goes', per_name=True),
               Column('why', lambda r: kept.get(r.name, ''), per_name=True)]
    which = f', run {run.number}' if view.index.last_run > 1 else ''
    title = f'Checkpoints in {view.directory}{which}, newest first'
    print_checkpoint_table(title, view.directory, run.records, columns)
    print()


def _check_witnesses(view: StoreView, run: _Run) -> None:
    faults: dict[str, str | None] = {}
    kept = [record for record in run.records if record.name in run.plan.kept]
    for role, candidates in witnesses(run.plan.drop, kept).items():
        for record in candidates:
            if record.name not in faults:
                faults[record.name] = faults_of(view, [record]).get(record.name)
            if faults[record.name] is None:
                break
        else:
            reasons = ''.join(f'\n  {record.name}: {faults[record.name]}' for record in candidates)
            raise CorruptCheckpointError(
                f'nothing was dropped: no valid checkpoint would stay as {role!r}.{reasons}\nMove the '
                'bad files away, or keep more.')
    for name, fault in faults.items():
        if fault is not None:
            warn(f'{name} stays, but is bad: {fault}')


def _drop(catalog: Catalog, drop: list[Record]) -> int:
    paths = [catalog.directory / record.name for record in drop]
    before = bytes_on_disk(paths)
    catalog.drop(drop)
    left = [path for path in paths if path.exists()]
    freed = before - bytes_on_disk(left)
    say(f'dropped {len(drop) - len(left)} checkpoints, {shown_bytes(freed)} freed')
    return 1 if left else 0


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f'expected a number of files of at least 1, got {text}')
    return count


def _rule(text: str) -> tuple[str, str]:
    metric, _, rule = text.rpartition('=')
    if not metric or rule not in ('less', 'greater'):
        raise argparse.ArgumentTypeError(f'expected METRIC=less or METRIC=greater, got {text}')
    return metric, rule
