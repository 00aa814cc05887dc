"""Plants faults in real trainings and lets the monitor find them; healthy ones must raise no alarm.

    python tools/benchmarks/monitor_proof.py                      # 17 faults, 27 healthy runs
    python tools/benchmarks/monitor_proof.py --healthy 2 --faults 'NaN pixel,slow loader'

Printed are what each fault was found as, after how many iterations, and what
was found in healthy runs, all with the monitor's defaults.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from measure import environment, table
from mmengine.runner import Runner
from monitor_runs import Fault, demo_runner, digits_runner, restarts, trained_digits

from mmckpt.monitor.events import TITLES

EPOCH = 45  # Iterations of an epoch of the digits net.


@dataclass(frozen=True)
class Case:
    """One planted fault.

    Args:
        kinds (tuple[str]): Kinds of findings that name it rightly.
        since (int): Iteration at which it begins.
        plant (callable, optional): Plants it, see :class:`monitor_runs.Fault`. Defaults to None.
        lasting (bool): Whether it is planted in each further iteration. Defaults to False.
        options (dict): Arguments of :func:`monitor_runs.digits_runner`; ``tuned=True`` begins with trained weights.
    """

    kinds: tuple[str, ...]
    since: int = 0
    plant: Callable[[Runner, Any], None] | None = None
    lasting: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def nan_pixel(runner: Runner, batch: Any) -> None:
    """Spoil one pixel of the batch."""
    batch['inputs'][0][0, 3, 3] = float('nan')


def raise_lr(runner: Runner, batch: Any) -> None:
    """Raise the learning rate a hundredfold."""
    for group in runner.optim_wrapper.param_groups:
        group['lr'] *= 100


def shuffle_labels(runner: Runner, batch: Any) -> None:
    """Give the training images the labels of others from now on."""
    random.Random(0).shuffle(runner.train_dataloader.dataset.labels)


def overflow(runner: Runner, batch: Any) -> None:
    """Compute in float16 with activations that do not fit."""
    runner.model.half, runner.model.gain = True, 1e5


def leak(runner: Runner, batch: Any) -> None:
    """Keep a quarter of a MiB an iteration from now on."""
    runner.model.kept = []


def slow_loader(runner: Runner, batch: Any) -> None:
    """Let each sample take 1.5 ms from now on."""
    runner.train_dataloader.dataset.seconds = 0.0015


def loss_bug(runner: Runner, batch: Any) -> None:
    """Multiply the loss by 100 from now on."""
    runner.model.loss_factor = 100.0


def freeze_lr(runner: Runner, batch: Any) -> None:
    """Set the learning rate to 0."""
    for group in runner.optim_wrapper.param_groups:
        group['lr'] = 0.0


def growing_work(runner: Runner, batch: Any) -> None:
    """Do a little more in each iteration."""
    for _ in range(runner.iter // 4):
        torch.ones(2000).sum()


CASES = {
    'NaN pixel in a batch': Case(('non_finite',), 4 * EPOCH, nan_pixel),
    'lr x100 at epoch 3': Case(('loss_spike', 'divergence', 'loss_level'), 2 * EPOCH, raise_lr),
    'labels shuffled from epoch 4': Case(('performance_drop',), 3 * EPOCH, shuffle_labels),
    'overflow in float16': Case(('non_finite',), 4 * EPOCH, overflow),
    'loss x100 (a bug)': Case(('gradient_explosion',), 6 * EPOCH, loss_bug),
    'dead loss term': Case(('loss_term_dead',), options=dict(dead=True)),
    'loss term 1e-5 of the other': Case(('loss_scale',), options=dict(tiny=1e-5)),
    'layer that is not used': Case(('idle_parameters',), options=dict(unused=True)),
    'learning rate 0': Case(('lr_zero',), 4 * EPOCH, freeze_lr, lasting=True),
    'learning rate 1e-9': Case(('no_progress',), options=dict(lr=1e-9, epochs=13)),
    'fine-tuning with learning rate 1e-9': Case(('no_progress',), options=dict(lr=1e-9, epochs=13, tuned=True)),
    'lr x100 right after a warm restart': Case(('loss_spike', 'divergence'), 4 * EPOCH + 5, raise_lr,
                                               options=dict(schedule=restarts())),
    'metric that is broken': Case(('metric_zero',), options=dict(broken=True)),
    '200 samples with random labels': Case(('overfitting',), 0, shuffle_labels, False,
                                       dict(rows=slice(0, 200), epochs=60, lr=0.1)),
    'list that leaks': Case(('memory_growth',), 2 * EPOCH, leak, options=dict(epochs=24)),
    'slow loader': Case(('slow_data',), 4 * EPOCH, slow_loader, options=dict(epochs=8)),
    'more work in each iteration': Case(('slowing',), 0, growing_work, True, dict(epochs=28)),
}


def healthy_runs(count: int) -> list[tuple[str, Callable[[Path], Runner]]]:
    """Return name and builder of healthy runs: seeds x learning rates of three demos, then what is easily suspected."""
    runs: list[tuple[str, Callable[[Path], Runner]]] = []
    for seed in range(4):
        for factor in (0.5, 1.0):
            runs.append((f'classification, seed {seed}, lr x{factor:g}',
                         lambda work_dir, s=seed, f=factor: digits_runner(
                             work_dir, lr=0.02 * f, seed=s, monitor=dict(report=False))))
    for seed in range(3):
        for factor in (0.5, 1.0):
            for name, config, epochs in (('pose', 'pose/digits_keypoints.py', 3),
                                         ('depth', 'depth_ddp/unet_sparse_2ranks.py', 6)):
                runs.append((f'{name}, seed {seed}, lr x{factor:g}',
                             lambda work_dir, c=config, e=epochs, s=seed, f=factor: demo_runner(
                                 c, work_dir, seed=s, lr_factor=f, epochs=e)))
    for seed in range(2):
        for factor in (0.01, 0.1):
            runs.append((f'fine-tuning, seed {seed}, lr x{factor:g}',
                         lambda work_dir, s=seed, f=factor: digits_runner(
                             work_dir, lr=0.02 * f, seed=s, epochs=13, load_from=trained_digits(work_dir),
                             monitor=dict(report=False))))
        runs.append((f'warm restarts, seed {seed}', lambda work_dir, s=seed: digits_runner(
            work_dir, lr=0.3, seed=s, epochs=9, schedule=restarts(), monitor=dict(report=False))))
    runs.append(('recommender, growing weight of a loss term', lambda work_dir: demo_runner(
        'recsys_multivae/baskets_multivae.py', work_dir, seed=0, lr_factor=1.0, epochs=30)))
    return runs[:count]


def events_of(runner: Runner) -> list[dict[str, Any]]:
    """Train, and return the events that the monitor found."""
    runner.train()
    return json.loads((Path(runner.work_dir) / 'training_stats.json').read_text())['events']


def prove_fault(name: str, directory: Path) -> list[str]:
    """Run one case; return its row of the table."""
    case = CASES[name]
    fault = None if case.plant is None else Fault(case.since, case.plant, case.lasting)
    options = dict(case.options)
    if options.pop('tuned', False):
        options['load_from'] = trained_digits(directory)
    events = events_of(digits_runner(directory, fault, monitor=dict(report=False), **options))
    found = [event for event in events if event['kind'] in case.kinds and event['last_iter'] >= case.since]
    others = sorted({TITLES[event['kind']] for event in events
                     if event['kind'] not in case.kinds and event['severity'] != 'info'})
    if not found:
        return [name, '**not found**', '', '', ', '.join(others)]
    first = min(found, key=lambda event: event['first_iter'])
    return [name, TITLES[first['kind']], first['severity'], str(first['first_iter'] - case.since), ', '.join(others)]


def prove_healthy(count: int, directory: Path) -> tuple[list[str], Counter[str]]:
    """Run healthy trainings; return alarms in words, and how often each severity was seen."""
    alarms, severities = [], Counter()
    for number, (name, build) in enumerate(healthy_runs(count)):
        events = events_of(build(directory / str(number)))
        print(f'{name}: {", ".join(e["kind"] for e in events) or "nothing"}', file=sys.stderr, flush=True)
        for event in events:
            severities[event['severity']] += 1
            if event['severity'] != 'info':
                alarms.append(f'{name}: {event["message"]}')
    return alarms, severities


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--faults', default=','.join(CASES), help='comma-separated names')
    parser.add_argument('--healthy', type=int, default=27, help='how many healthy runs, at most 27')
    args = parser.parse_args()
    names = [name for name in args.faults.split(',') if name]
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        parser.error(f'--faults knows {", ".join(CASES)}, but got {", ".join(unknown)}')
    print(environment(Path('.')), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [prove_fault(name, Path(scratch) / name.replace(' ', '_')) for name in names]
        if rows:
            print('\n' + table(['planted', 'found as', 'severity', 'after iterations', 'also'], rows), flush=True)
        alarms, severities = prove_healthy(args.healthy, Path(scratch) / 'healthy')
    print(f'\n{args.healthy} healthy runs: {len(alarms)} findings above info, {severities["info"]} infos.')
    for alarm in alarms:
        print(f'- {alarm}')


if __name__ == '__main__':
    main()
