"""``mmckpt average``: one model out of the best checkpoints of a run."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process

from mmckpt.cli.bn_statistics import recompute_bn_statistics
from mmckpt.cli.console import say, shown_path
from mmckpt.cli.directory import read_directory
from mmckpt.cli.evaluate import add_run_arguments, chosen_files
from mmckpt.cli.evaluation import CheckpointEvaluator, deciding_selection, evaluation_config, report
from mmckpt.errors import UsageError
from mmckpt.policy.selection import Scorer, Selection, infer_rule, is_better, safe_characters
from mmckpt.state.soup import average_weights, greedy_soup
from mmckpt.store import load_checkpoint
from mmckpt.store.backend import LocalBackend, rename, write_temporary
from mmckpt.store.find import metrics_of_bests, ranked
from mmckpt.store.serialize import write_state

HELP = 'average the weights of the best checkpoints of a run into one model, and compare it with them'
EXAMPLES = """  %(prog)s work_dirs/run --top PCK:5
  %(prog)s work_dirs/run --top PCK:5 --greedy --update-bn 200
  %(prog)s work_dirs/run --ckpts epoch:8,epoch:9,last"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``average``."""
    add_run_arguments(parser)
    members = parser.add_mutually_exclusive_group(required=True)
    members.add_argument('--top', metavar='METRIC:N', help='the N best kept checkpoints by a metric')
    members.add_argument('--ckpts', metavar='SPEC,...', help='checkpoints, as in `evaluate`')
    parser.add_argument('--greedy', action='store_true',
                        help='add a member only if the validation does not get worse (best first)')
    parser.add_argument('--update-bn', type=int, default=0, metavar='N',
                        help='recompute the statistics of batch normalisation on N training batches')
    parser.add_argument('--name', metavar='FILE', help='file to write (default: WORK_DIR/averaged/<members>.pth)')


def run(args: argparse.Namespace) -> int:
    """Average, write the file, and print it beside its members."""
    directory = Path(args.directory)
    members = _members(directory, args.top, args.ckpts)
    target = Path(args.name) if args.name else directory / 'averaged' / _default_name(args)
    if args.name and target.exists():
        raise UsageError(f'{target} is there already; pass another --name')
    with evaluation_config(directory, args.config, args.cfg_options, args.launcher, members[0]) as cfg:
        on = 'val' if args.greedy else None
        evaluator = CheckpointEvaluator(cfg, on)
        results = evaluator.results(members)
        selection = deciding_selection(evaluator.selections, args.metric, args.rule, list(results[0].metrics))
        order = _best_first(results, selection)
        if args.greedy:
            order = _greedy(order, evaluator, selection)
        weights = average_weights([_weights(path) for path in order], [path.name for path in order])
        if args.update_bn:
            weights = recompute_bn_statistics(evaluator.runner, weights, args.update_bn)
        if is_main_process():
            _write(target, order, weights, selection)
        barrier()
        results.append(evaluator.results([target])[0])
        names = {path: 'member' if path in order else 'left out' for path in members}
        report(f'The mean of {len(order)} of {len(members)} checkpoints, on the {evaluator.on} set', results, selection,
               {**names, target: 'mean'}, args.out)
    return 0


def _members(directory: Path, top: str | None, ckpts: str | None) -> list[Path]:
    if ckpts is not None:
        paths = list(chosen_files(directory, ckpts))
    else:
        metric, _, number = str(top).rpartition(':')
        if not metric or not number.isdigit():
            raise UsageError(f'--top takes METRIC:N, such as PCK:5, but got {top!r}.')
        view = read_directory(directory).view
        records = view.records_of_run() or view.records()
        kept = ranked(records, metric) if metric in metrics_of_bests(records) else []
        # One after the other through the same door, which checks every byte.
        specs = ','.join(f'top:{metric}:{i}' for i in range(1, min(int(number), len(kept)) + 1)) or f'best:{metric}'
        paths = list(chosen_files(directory, specs))
        if len(kept) < int(number):
            say(f'only {len(kept)} of the best by {metric} are kept, {number} were asked for: keep more of them with '
                f'save_best=dict(metric={metric!r}, keep={number})')
    if len(paths) < 2:
        raise UsageError(f'an average needs at least two checkpoints, but there is only {paths[0].name}.')
    return paths


def _default_name(args: argparse.Namespace) -> str:
    kind = 'greedy' if args.greedy else 'mean'
    return safe_characters(f'{kind}_{args.top or args.ckpts}'.replace(':', '_').replace(',', '+')) + '.pth'


def _best_first(results: Sequence[Any], selection: Selection) -> list[Path]:
    scorer, rule = Scorer(selection), infer_rule(selection.name, selection.rule)

    def worth(result: Any) -> float:
        score = scorer.raw(result.metrics)
        return -math.inf if score is None else score if rule == 'greater' else -score

    return [result.path for result in sorted(results, key=worth, reverse=True)]


def _greedy(order: list[Path], evaluator: CheckpointEvaluator, selection: Selection) -> list[Path]:
    scorer, rule = Scorer(selection), infer_rule(selection.name, selection.rule)
    with tempfile.TemporaryDirectory(prefix='mmckpt-average-') as directory:

        def score(weights: Any) -> float:
            trial = Path(directory) / 'trial.pth'
            torch.save(dict(meta={}, state_dict=dict(weights)), trial)
            value = scorer.raw(evaluator(trial))
            return math.nan if value is None else value

        taken, scores = greedy_soup([_weights(path) for path in order], [path.name for path in order], score,
                                    lambda a, b: is_better(a, b, rule))
    for position, value in enumerate(scores):
        say(f'{selection.name} {value:.4f} with {order[position].name}: '
            f"{'taken' if position in taken else 'left out'}")
    return [order[position] for position in taken]


def _weights(path: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(path, mmap=True)
    return dict(checkpoint.get('state_dict', checkpoint))


def _write(target: Path, members: Sequence[Path], weights: dict[str, Any], selection: Selection) -> None:
    meta = dict(load_checkpoint(members[0], mmap=True).get('meta') or {})
    meta.update(averaged_from=[path.name for path in members], averaged_by=selection.name,
                time=time.strftime('%Y%m%d_%H%M%S'))
    target.parent.mkdir(parents=True, exist_ok=True)
    backend = LocalBackend()
    temporary, written = write_temporary(
        backend, target, lambda file: write_state(dict(meta=meta, state_dict=weights), file))
    rename(backend, temporary, target)
    backend.sync_directory(target.parent)
    say(f'wrote {shown_path(target)} ({written.digest})')
