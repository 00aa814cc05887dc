"""Saves as a whole training makes them: through a real Runner and its checkpoint hook."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable

import mmengine.runner.runner as stock_runner
from measure import Stopwatch, interleaved, median, sync, table, written_bytes
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from workload import SIZES, Size, make_runner

_METRICS = ('AP', 'AR', 'PCK')
_SAVE_BEST = [f'val/{name}' for name in _METRICS]
_EVENTS = ('after_train_epoch', 'after_val_epoch', 'after_val')


def checkpoint_hook(runner: Runner) -> CheckpointHook:
    """Return the hook of a Runner that saves."""
    return next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))


def best_table(size: Size, repeats: int, directory: Path) -> str:
    """Measure a step with a periodic save whose validation is the best by three metrics.

    The time is that of the checkpoint hook in the events of that step; in the
    background, the write itself is in none of them.
    """
    kinds = {
        'mmengine.CheckpointHook': dict(type='CheckpointHook'),
        'mmckpt.CheckpointHook': dict(type='mmckpt.CheckpointHook'),
        'mmckpt.CheckpointHook, async': dict(type='mmckpt.CheckpointHook', store=dict(async_save=True)),
    }
    results = interleaved([partial(_best_step, size, kind, directory) for kind in kinds.values()], repeats)
    blocked = [median(seconds for seconds, _ in result) for result in results]
    written = [median(count for _, count in result) / size.bytes for result in results]
    rows = [(name, f'{1e3 * one:.1f}', f'{one / blocked[0]:.3f}', f'{count:.2f}', when)
            for name, one, count, when in zip(kinds, blocked, written, ('no', 'yes', 'later'))]
    return table(['save', 'blocked ms', 'x stock', 'written x state', 'durable'], rows)


def _best_step(size: Size, kind: dict[str, Any], directory: Path) -> tuple[float, int]:
    """Train two epochs; return the seconds of the second, in which every metric improves again, and its bytes."""
    config = dict(interval=1, save_best=_SAVE_BEST, rule='greater', max_keep_ckpts=2, **kind)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        runner = make_runner(size, Path(scratch), config, metrics=_METRICS, epochs=2)
        hook, watch = checkpoint_hook(runner), Stopwatch()
        for event in _EVENTS:
            setattr(hook, event, _in_last_epoch(event, getattr(hook, event), watch))
        runner.register_hook(Settle(), priority='VERY_HIGH')
        before = written_bytes()
        runner.train()
        # Whole run, because a write in the background ends when it ends; both epochs write the same.
        total = (written_bytes() - before) // 2
        return watch.seconds, total


class Settle(Hook):
    """Lets nothing of one epoch's saves go on during the next one's."""

    def before_train_epoch(self, runner: Runner) -> None:
        """Wait for writes in the background, mmckpt's and the kernel's."""
        store = getattr(checkpoint_hook(runner), 'store', None)
        if store is not None:
            store.wait()
        for path in Path(runner.work_dir).glob('*.pth'):
            sync(path)


def _in_last_epoch(event: str, plain: Callable[..., Any], watch: Stopwatch) -> Callable[..., Any]:
    measured = watch.around(plain)

    def call(runner: Runner, *args: Any, **kwargs: Any) -> None:
        # The Runner counts an epoch after its last event.
        current = runner.epoch + (event == 'after_train_epoch')
        (measured if current == runner.max_epochs else plain)(runner, *args, **kwargs)

    return call


def overhead_table(repeats: int, directory: Path) -> str:
    """Measure what a periodic save costs apart from writing the file, for a small model and a big config."""
    kinds = {'mmengine.CheckpointHook': dict(type='CheckpointHook'),
             'mmckpt.CheckpointHook': dict(type='mmckpt.CheckpointHook')}
    results = [_overheads(kind, repeats, directory) for kind in kinds.values()]
    rows = [(name, f'{1e3 * median(whole):.2f}', f'{1e3 * median(rest):.2f}')
            for name, (whole, rest) in zip(kinds, results)]
    return table(['save', 'whole ms', 'not writing ms'], rows)


def _overheads(kind: dict[str, Any], repeats: int,
               directory: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Return the seconds of each save, and those outside the call that writes."""
    whole: list[float] = []
    rest: list[float] = []
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        runner = make_runner(SIZES['100MB'], Path(scratch), dict(interval=1, max_keep_ckpts=2, **kind),
                             epochs=repeats + 1, blocks=60)
        hook = checkpoint_hook(runner)
        save = hook.after_train_epoch

        def measured_save(*args: Any, **kwargs: Any) -> None:
            total, writing = Stopwatch(), Stopwatch()
            undo = _watch_writing(hook, writing)
            total.around(save)(*args, **kwargs)
            undo()
            whole.append(total.seconds)
            rest.append(total.seconds - writing.seconds)

        hook.after_train_epoch = measured_save
        runner.train()
    # The first save is warm-up, as in the other tables.
    return whole[1:], rest[1:]


def _watch_writing(hook: CheckpointHook, watch: Stopwatch) -> Callable[[], None]:
    """Measure the call that hands the finished dict to the disk; return how to stop that."""
    owner, name = (hook.store, 'write') if hasattr(hook, 'store') else (stock_runner, 'save_checkpoint')
    original = getattr(owner, name)
    setattr(owner, name, watch.around(original))
    return partial(setattr, owner, name, original)
