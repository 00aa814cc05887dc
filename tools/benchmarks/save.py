"""What saving a checkpoint costs, against MMEngine, Lightning, torch and the machine's floor.

    python tools/benchmarks/save.py --sizes 100MB,500MB,2GB,many --repeats 9

Every way to save runs once in each round, and the medians over the rounds are
printed, so that a busy minute of the machine hits all of them. Between two
saves the optimizer makes a step; waiting for a write in the background, and
removing the files, is not timed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import tempfile
from functools import partial
from pathlib import Path

import torch
from contestants import Contestant, contestants
from measure import PeakMemory, environment, interleaved, median, seconds, table, written_bytes
from mmengine.runner import Runner
from runner_saves import best_table, overhead_table
from workload import SIZES, make_runner, size_names

_NEVER = dict(type='CheckpointHook', interval=10 ** 9, save_last=False)
_STOCK = 'MMEngine Runner.save_checkpoint'
_FLOOR = 'memcpy floor'


def trained(size: str, directory: Path) -> Runner:
    """Return a Runner that has made one step, with gradients for further ones."""
    runner = make_runner(SIZES[size], directory, _NEVER)
    runner.train()
    for parameter in runner.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    return runner


def timed_round(runner: Runner, contestant: Contestant) -> tuple[float, int]:
    """Change the state, save it, and wait; return the blocked seconds and the bytes written."""
    runner.optim_wrapper.optimizer.step()
    before = written_bytes()
    blocked = seconds(contestant.save)
    contestant.settle()
    return blocked, written_bytes() - before


def peak_memory(size: str, name: str, directory: str) -> int:
    """Return the bytes of memory that one save needs at most."""
    for warm_or_measured in ('tiny', size):
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            runner = trained(warm_or_measured, Path(scratch) / 'run')
            with contestants(runner, Path(scratch)) as found, PeakMemory() as peak:
                found[name].save()
                found[name].settle()
    return peak.bytes


def save_table(size: str, repeats: int, directory: Path) -> str:
    """Measure all ways to save a state of one size."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        runner = trained(size, Path(scratch) / 'run')
        with contestants(runner, Path(scratch)) as found:
            results = interleaved([partial(timed_round, runner, one) for one in found.values()], repeats)
            durable = [one.durable for one in found.values()]
    blocked = {name: median(one for one, _ in result) for name, result in zip(found, results)}
    written = {name: median(count for _, count in result) for name, result in zip(found, results)}
    # In another process, so that no allocator hides what the timed saves left.
    with multiprocessing.get_context('spawn').Pool(1, initializer=gc.freeze) as pool:
        peaks = pool.starmap(peak_memory, [(size, name, str(directory)) for name in found], chunksize=1)
    state = SIZES[size].bytes
    rows = [(name, f'{1e3 * one:.1f}', f'{one / blocked[_STOCK]:.3f}', f'{one / blocked[_FLOOR]:.2f}',
             f'{written[name] / state:.2f}', f'{peak / state:.2f}', when)
            for (name, one), peak, when in zip(blocked.items(), peaks, durable)]
    return table(['save', 'blocked ms', 'x stock', 'x memcpy', 'written x state', 'peak memory x state',
                  'durable'], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', type=size_names, default='100MB,500MB,2GB,many',
                        help=f'comma-separated, of {", ".join(SIZES)}')
    parser.add_argument('--repeats', type=int, default=9, help='rounds that count, after one that does not')
    parser.add_argument('--dir', type=Path, default=Path('.'), help='a directory on the disk to be measured')
    args = parser.parse_args()
    print(environment(args.dir))
    for size in args.sizes:
        megabytes, tensors = SIZES[size].bytes / 1e6, 4 * SIZES[size].matrices
        print(f'\n### One save of {size} ({megabytes:.1f} MB in {tensors} tensors)\n')
        print(save_table(size, args.repeats, args.dir), flush=True)
    for size in args.sizes:
        print(f'\n### Three metrics improve at the step of a periodic save, {size}\n')
        print(best_table(SIZES[size], args.repeats, args.dir), flush=True)
    print('\n### What a save costs besides writing, with a config of 60 blocks\n')
    print(overhead_table(args.repeats, args.dir))


if __name__ == '__main__':
    main()
