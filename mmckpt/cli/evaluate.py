"""``mmckpt evaluate``: the kept checkpoints of a run side by side on its test set."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmckpt.cli import arguments
from mmckpt.cli.console import say
from mmckpt.cli.directory import file_id, files_of, read_directory
from mmckpt.cli.evaluation import CheckpointEvaluator, deciding_selection, evaluation_config, report
from mmckpt.errors import UsageError
from mmckpt.store import find_checkpoint
from mmckpt.store.find import is_spec, metrics_of_bests

HELP = 'evaluate the kept checkpoints of a run on its test set, and say which one is best'
EXAMPLES = """  %(prog)s work_dirs/run
  %(prog)s work_dirs/run --ckpts best:PCK,top:PCK:2,last --metric PCK
  %(prog)s work_dirs/run --ckpts all --on val --out results.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``evaluate``."""
    add_run_arguments(parser)
    parser.add_argument('--ckpts', default='best,last', metavar='SPEC,...',
                        help='what to evaluate: best (by each metric), best:METRIC, top:METRIC:N, last, epoch:N, '
                             'iter:N, all, or file names (default: best,last)')
    parser.add_argument('--on', choices=['test', 'val'], help='which data (default: test, where there is a test set)')


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``evaluate`` and ``average`` share."""
    parser.add_argument('directory', metavar='WORK_DIR', help='directory with the checkpoints of a run')
    parser.add_argument('--config', metavar='CONFIG',
                        help='config file (default: the one in WORK_DIR, else the one stored in a checkpoint)')
    parser.add_argument('--metric', help="which one decides (default: the first of the config's save_best)")
    parser.add_argument('--rule', choices=['greater', 'less'], help='which values of it are better (default: inferred)')
    parser.add_argument('--out', metavar='FILE', help='also write the results to a .json file')
    arguments.add_cfg_options(parser)
    arguments.add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and the winner."""
    directory = Path(args.directory)
    names = chosen_files(directory, args.ckpts)
    paths = list(names)
    with evaluation_config(directory, args.config, args.cfg_options, args.launcher, paths[0]) as cfg:
        evaluator = CheckpointEvaluator(cfg, args.on)
        results = evaluator.results(paths)
        selection = deciding_selection(evaluator.selections, args.metric, args.rule, list(results[0].metrics))
        report(f'{args.directory} on its {evaluator.on} set', results, selection, names, args.out)
    return 0


def chosen_files(directory: Path, asked: str) -> dict[Path, str]:
    """Return the files that a list of specs and names stands for, each once, with what it was asked for as.

    Args:
        directory (Path): The directory of the run.
        asked (str): Specs and file names, separated by commas.

    Raises:
        UsageError: If a name is neither.
        CheckpointNotFoundError: If there is no such checkpoint; the message names the nearest.
    """
    listing = read_directory(directory)
    records = listing.view.records_of_run() or listing.view.records()
    found: dict[Path, list[str]] = {}
    known: dict[object, Path] = {}
    for spec in _expanded(asked, metrics_of_bests(records)):
        if spec == 'all':
            paths = [directory / names[0].name for names in files_of(directory, records)]
        elif is_spec(spec):
            checkpoint = find_checkpoint(directory, spec)
            if checkpoint.note:
                say(checkpoint.note)
            paths = [checkpoint.path]
        elif (directory / spec).is_file():
            paths = [directory / spec]
        else:
            raise UsageError(f'--ckpts {spec}: neither a file of {directory} nor one of best, best:METRIC, '
                             'top:METRIC:N, latest, last, epoch:N, iter:N, all.')
        for path in paths:
            # Several names of one file, and copies of it, are evaluated once.
            record = listing.view.find(path.name)
            first = known.setdefault(record.digest if record and record.digest else file_id(path), path)
            found.setdefault(first, []).append(spec)
    return {path: ', '.join(dict.fromkeys(specs)) for path, specs in found.items()}


def _expanded(asked: str, metrics: list[str]) -> list[str]:
    specs = [spec.strip() for spec in asked.split(',') if spec.strip()]
    if not specs:
        raise UsageError('--ckpts names no checkpoint.')
    return [one for spec in specs
            for one in ([f'best:{metric}' for metric in metrics] if spec == 'best' and metrics else [spec])]
