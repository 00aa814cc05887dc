"""``mmckpt quick-check``: a few real iterations before a long training (R1)."""

from __future__ import annotations

import argparse
import math
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from mmckpt.cli import arguments
from mmckpt.cli.argument_check import check_arguments
from mmckpt.cli.config import build_runner, check_writable, read_config, type_name
from mmckpt.cli.console import print_table
from mmckpt.cli.drill import drill
from mmckpt.cli.findings import (
    Finding,
    judge_gradients,
    judge_monitors,
    judge_terms,
    monitored_metrics,
    note,
    problem,
    summarize_terms,
)
from mmckpt.cli.probe import EnoughIterations, TrainingProbe, validate_one_batch
from mmckpt.errors import UsageError

HELP = 'prove in a few iterations that a config trains: losses, gradients, speed, metric names'
EXAMPLES = """  %(prog)s configs/pose/digits_keypoints.py --iterations 10
  %(prog)s configs/pose/digits_keypoints.py --resume-drill
  %(prog)s any_openmmlab_config.py --resume-drill --safe --iterations 5"""

# They judge a whole training, or write what nobody reads.
_LEFT_OUT = ('EarlyStoppingHook', 'TrainingMonitorHook')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``quick-check``."""
    arguments.add_config(parser, work_dir='keep the logs there (default: a temporary directory)')
    parser.add_argument('--iterations', type=int, default=10, metavar='N',
                        help='training iterations to run (default: 10)')
    parser.add_argument('--resume-drill', action='store_true',
                        help='prove that a resumed training is the one that was never stopped: 2 N '
                             'iterations straight against N + N with a new process in between, to the bit')
    parser.add_argument('--safe', action='store_true',
                        help='with --resume-drill: drill the config as `train --safe` would train it')


def run(args: argparse.Namespace) -> int:
    """Run the check; return 0 if all is well and 1 if a problem was found."""
    if args.iterations < 1:
        raise UsageError(f'--iterations must be at least 1, got {args.iterations}')
    if args.safe and not args.resume_drill:
        raise UsageError('--safe goes with --resume-drill; the quick check is the same with and without it')
    cfg = read_config(args.config, args.cfg_options)
    check_arguments(cfg)
    if args.resume_drill:
        with _work_dir(args.work_dir) as directory:
            return drill(args.config, args.cfg_options, args.iterations, args.safe, directory)
    with _work_dir(args.work_dir) as cfg.work_dir:
        findings = check(cfg, args.iterations)
    problems = [f for f in findings if f.severe]
    for finding in findings:
        print(f"{'PROBLEM' if finding.severe else 'note'}: {finding.text}")
    print(f'quick check: {len(problems)} problem(s) found' if problems else
          'quick check: forward, backward and validation work', flush=True)
    return 1 if problems else 0


def check(cfg: Config, iterations: int) -> list[Finding]:
    """Train and validate for a moment with the user's own Runner, and judge what was seen.

    Nothing is saved, no early stopping acts and no visualization backend
    (which may be a remote one) is told.

    Args:
        cfg (Config): The config, with a ``work_dir``; changed in place.
        iterations (int): Training iterations; at least one window of gradient accumulation is run.

    Returns:
        list[Finding]: Problems and notes.
    """
    monitors = monitored_metrics(cfg)
    iterations = max(iterations, (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1))
    _prepare(cfg)
    runner = build_runner(cfg)
    probe = TrainingProbe(iterations)
    runner.register_hook(probe)
    failure = _train(runner, probe)
    _print_training(runner, probe)
    if failure is not None:
        return [failure]
    terms = summarize_terms(probe.terms, probe.iterations)
    findings = [*judge_terms(terms), *judge_gradients(probe.gradients)]
    if probe.iterations < iterations:
        findings.append(note(f'training ended by itself after {probe.iterations} of {iterations} iterations'))
    return findings + _check_validation(runner, probe, monitors)


@contextmanager
def _work_dir(asked: str | None) -> Iterator[str]:
    if asked is not None:
        check_writable(asked)
        yield asked
        return
    with tempfile.TemporaryDirectory(prefix='mmckpt-quick-check-') as directory:
        yield directory


def _prepare(cfg: Config) -> None:
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
    for name, hook in list(cfg.default_hooks.items()):
        if type_name(hook) in _LEFT_OUT:
            del cfg.default_hooks[name]
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if type_name(h) not in _LEFT_OUT]
    if cfg.get('visualizer') is not None:
        cfg.visualizer.pop('vis_backends', None)
    cfg.resume, cfg.log_level, cfg.launcher = False, 'WARNING', 'none'


def _train(runner: Any, probe: TrainingProbe) -> Finding | None:
    try:
        runner.train()
    except EnoughIterations:
        return None
    except Exception as error:
        traceback.print_exc()
        return problem(f'training failed in iteration {probe.iterations + 1}: {type(error).__name__}: '
                       f'{error} (traceback above)')
    return None


def _check_validation(runner: Any, probe: TrainingProbe, monitors: list[tuple[str, str]]) -> list[Finding]:
    if probe.val_loop is None:
        print('The config has no validation.\n')
        return [problem(f'{who} monitors {metric!r}, but the config has no validation')
                for who, metric in monitors]
    try:
        metrics, reason = validate_one_batch(runner, probe)
    except Exception as error:
        traceback.print_exc()
        return [problem(f'validation failed: {type(error).__name__}: {error} (traceback above)')]
    if metrics is None:
        return [note(f'{reason}; whether the monitored metrics exist is not known')]
    print_table('Metrics that the validation produces (values of one batch)', ['metric', 'value'],
                [[name, f'{float(value):.4f}'] for name, value in metrics.items()])
    print()
    return judge_monitors(monitors, list(metrics))


def _print_training(runner: Any, probe: TrainingProbe) -> None:
    if probe.iterations == 0:
        return
    rows = [[t.name, _number(t.first), _number(t.last), _number(t.low), _number(t.high),
             f'{t.computed} of {probe.iterations}', 'yes' if t.finite else 'NO']
            for t in summarize_terms(probe.terms, probe.iterations)]
    print_table(f'{probe.iterations} training iterations',
                ['term', 'first', 'last', 'min', 'max', 'computed', 'finite'], rows)
    norms, when = _gradient_norms(runner, probe)
    if norms:
        print(f'Gradient norm{when}: first {_number(norms[0])}, last {_number(norms[-1])}')
    timing = probe.timing
    if timing is not None:
        data, compute = timing
        total = (data + compute) * runner.max_iters
        print(f'Time an iteration: {data + compute:.3f} s, of which {data:.3f} s waiting for data')
        print(f'Whole training: {runner.max_iters} iterations, about {_duration(total)} without validations')
    print()


def _gradient_norms(runner: Any, probe: TrainingProbe) -> tuple[list[float], str]:
    # MMEngine notes the norm before clipping; the probe sees what reaches the optimizer.
    before = runner.message_hub.log_scalars.get('train/grad_norm')
    if before is not None:
        return before.data[0].tolist(), ' before clipping'
    return probe.gradients.norms, ''


def _number(value: float) -> str:
    return f'{value:.6f}' if math.isfinite(value) and abs(value) < 1e6 else f'{value:.4g}'


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 120 else f'{minutes / 60:.1f} h'
