"""What the monitor costs an iteration, beside MMEngine's own history of scalars.

    python tools/benchmarks/monitor.py                 # at 1,000 and at 1,000,000 iterations
    python tools/benchmarks/monitor.py --quick

An iteration hands over 8 losses, the total among them, and the gradient norm, which are
in the message hub already, as in a real training: their ``.item()`` is not
timed. The hooks are called as the Runner calls them, in all iterations up to
those that are timed. Times are those of the processor in this thread, so that
other processes do not count.
"""

from __future__ import annotations

import argparse
import gc
import logging
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import torch
from measure import environment, interleaved, median, table
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.visualization import Visualizer

from mmckpt.hooks import TrainingMonitorHook
from mmckpt.progress import Progress

TERMS = ['loss', *(f'loss_{i}' for i in range(7))]
CALLS = 2000


class Scalars:
    """Stands in for the message hub's histories: the value at the end changes, none grows."""

    def __init__(self, seed: int = 0) -> None:
        values = np.random.default_rng(seed).lognormal(0, 0.3, (997, len(TERMS) + 1))
        self.values, self.row = [[np.full(1, value) for value in row] for row in values], 0
        names = [f'train/{name}' for name in [*TERMS, 'grad_norm']]
        self.log_scalars = {name: SimpleNamespace(_log_history=np.ones(1)) for name in names}

    def step(self) -> None:
        """Give each scalar its next value, with the noise of a real loss."""
        row = self.values[self.row]
        self.row = (self.row + 1) % len(self.values)
        for buffer, value in zip(self.log_scalars.values(), row):
            buffer._log_history = value


class Ours:
    """The hook on a runner that is as small as can be.

    Args:
        work_dir (Path): Where it would write.
        **switches: Arguments of the hook.
    """

    def __init__(self, work_dir: Path, **switches: Any) -> None:
        model = torch.nn.Linear(4, 4)
        self.hook = TrainingMonitorHook(report=False, interval=10 ** 9, **switches)
        self.hub = Scalars()
        self.outputs = dict.fromkeys(TERMS)
        info = RuntimeInfoHook()
        self.runner = SimpleNamespace(
            iter=0, epoch=0, model=model, message_hub=self.hub, hooks=[info, self.hook], work_dir=str(work_dir),
            log_dir=str(work_dir), logger=logging.getLogger('monitor'), max_iters=10 ** 9, max_epochs=1,
            optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)), train_dataloader=None,
            train_loop=SimpleNamespace(run=None), visualizer=Visualizer('monitor'),
            experiment_name='monitor', _load_from=None, _resume=False)
        self.hook.before_train(self.runner)

    def at(self, iteration: int) -> None:
        """Run until so many iterations are completed."""
        while self.runner.iter < iteration:
            self.calls()

    def calls(self) -> float:
        """Return the seconds of ``CALLS`` iterations; giving the hub its values is not counted."""
        hook, runner, outputs, step = self.hook, self.runner, self.outputs, self.hub.step
        started = time.thread_time()
        for _ in range(CALLS):
            step()
        between = time.thread_time()
        for _ in range(CALLS):
            step()
            hook.before_train_iter(runner, 0, None)
            hook.after_train_iter(runner, 0, None, outputs)
            runner.iter += 1
        return (time.thread_time() - between) - (between - started)


class Detectors(Ours):
    """Statistics and all detectors of that hook, fed with floats: no hook around them."""

    def calls(self) -> float:
        """Return the seconds of ``CALLS`` iterations."""
        monitor, rows = self.hook._monitor, self.hub.values
        names = [*TERMS, 'grad_norm']
        steps = [dict(zip(names, (float(value[0]) for value in rows[i % len(rows)]))) for i in range(CALLS)]
        first = self.runner.iter
        started = time.thread_time()
        for number, values in enumerate(steps, first + 1):
            monitor.after_iter(values, Progress(0, number))
        self.runner.iter += CALLS
        return time.thread_time() - started


class Stock:
    """MMEngine's history of the same scalars, at a length that a run of that many iterations has."""

    def __init__(self) -> None:
        self.at(1000)

    def at(self, iteration: int) -> None:
        """Fill the histories."""
        self.buffers = [HistoryBuffer(np.ones(iteration), np.ones(iteration), max_length=10 ** 7) for _ in TERMS]

    def calls(self) -> float:
        """Return the seconds of ``CALLS`` iterations, extrapolated from fewer where they are slow."""
        calls = CALLS if len(self.buffers[0].data[0]) < 10 ** 5 else 5
        started = time.thread_time()
        for _ in range(calls):
            for buffer in self.buffers:
                buffer.update(1.0)
        return (time.thread_time() - started) * CALLS / calls


def measured(contestant: Any, warm: int) -> float:
    """Return microseconds an iteration."""
    gc.collect()
    gc.disable()
    try:
        return 1e6 * contestant.calls() / CALLS
    finally:
        gc.enable()


def compare(contestants: dict[str, Any], repeats: int, far: int) -> list[Sequence[str]]:
    """Measure all at 1,000 iterations and at ``far``."""
    rounds: dict[int, list[list[object]]] = {}
    for iteration in (1000, far):
        for one in contestants.values():
            one.at(iteration)
        actions: list[Callable[[], object]] = [partial(measured, one, iteration) for one in contestants.values()]
        rounds[iteration] = interleaved(actions, repeats)
    rows = []
    for number, name in enumerate(contestants):
        near, late = (median(rounds[iteration][number]) for iteration in (1000, far))
        rows.append([name, f'{near:.1f}', f'{late:.1f}', f'{late / near:.2f}'])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=9, help='rounds that count, after one that does not')
    parser.add_argument('--quick', action='store_true', help='two rounds, and 100,000 iterations instead of 1,000,000')
    args = parser.parse_args()
    far, repeats = (10 ** 5, 2) if args.quick else (10 ** 6, args.repeats)
    print(environment(Path('.')))
    off = dict.fromkeys(['spike', 'nan', 'divergence', 'loss_terms', 'gradients', 'plateau', 'zero_metric',
                         'overfitting', 'learning_rate', 'idle_parameters', 'slow_data', 'slowing', 'memory',
                         'gpu_idle'], False)
    with tempfile.TemporaryDirectory() as scratch:
        contestants = {
            'MMEngine message_hub, its history alone': Stock(),
            'mmckpt, the hook without detectors': Ours(Path(scratch), **off),
            'mmckpt, the detectors without a hook': Detectors(Path(scratch)),
            'mmckpt, hook and all detectors': Ours(Path(scratch)),
        }
        rows = compare(contestants, repeats, far)
    print('\n' + table(['us an iteration, 8 losses', 'at 1,000', f'at {far:,}', 'ratio'], rows))


if __name__ == '__main__':
    main()
