"""How long a resumed iteration-based run takes until it trains again."""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import interleaved, median, table
from mmengine.hooks import Hook
from workload import SIZES, Numbers, loader, make_runner

# After `import mmckpt`, torch reads what MMEngine writes.
import mmckpt  # noqa: F401

_SAMPLES, _BATCH_SIZE, _NEAR = 10_000, 4, 10


class FirstIteration(Hook):
    """Notes when the first iteration begins, its batch at hand."""

    def __init__(self) -> None:
        self.began: float | None = None

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the time, once."""
        self.began = self.began or time.perf_counter()


def first_iteration_table(far: int, repeats: int, directory: Path) -> str:
    """Measure resumes at iteration 10 and at a late one.

    No run is trained that far: the file of the late one is that of iteration
    10 with another count, so it lacks the longer log history that stock's
    would hold.
    """
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        files = {name: _files(name, far, Path(scratch) / name) for name in _KINDS}
        cases = [(name, offset) for name in _KINDS for offset in (_NEAR, far)]
        results = interleaved(
            [partial(_seconds, name, files[name][offset], offset, Path(scratch) / 'run') for name, offset in cases],
            repeats)
    medians = dict(zip(cases, map(median, results)))
    rows = [(name, f'{1e3 * medians[name, _NEAR]:.0f}', f'{1e3 * medians[name, far]:.0f}',
             f'{medians[name, far] / medians[name, _NEAR]:.2f}') for name in _KINDS]
    return table(['resume by', f'ms at iteration {_NEAR}', f'ms at iteration {far}', 'ratio'], rows)


_KINDS = {
    'MMEngine': dict(
        hook='CheckpointHook', loop='IterBasedTrainLoop', sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=Numbers(_SAMPLES)),
    'mmckpt': dict(
        hook='mmckpt.CheckpointHook', loop='mmckpt.IterBasedTrainLoop',
        sampler=dict(type='mmckpt.ResumableSampler', shuffle=True, infinite=True),
        dataset=dict(type='mmckpt.DeterministicDataset', dataset=Numbers(_SAMPLES))),
}


def _runner(name: str, work_dir: Path, checkpoint: dict[str, Any], max_iters: int, **kwargs: Any) -> Any:
    kind = _KINDS[name]
    data = loader(_SAMPLES, _BATCH_SIZE, sampler=kind['sampler'], dataset=kind['dataset'])
    return make_runner(
        SIZES['tiny'], work_dir, dict(type=kind['hook'], by_epoch=False, **checkpoint), train_dataloader=data,
        train_cfg=dict(type=kind['loop'], max_iters=max_iters), log_processor=dict(by_epoch=False), **kwargs)


def _files(name: str, far: int, directory: Path) -> dict[int, Path]:
    """Train ten iterations; return a checkpoint for each of the two counts."""
    _runner(name, directory, dict(interval=_NEAR), _NEAR).train()
    files = {}
    for count in (_NEAR, far):
        checkpoint = torch.load(directory / f'iter_{_NEAR}.pth', weights_only=True)
        checkpoint['meta']['iter'] = count
        files[count] = directory / f'resume_at_{count}.pth'
        torch.save(checkpoint, files[count])
    return files


def _seconds(name: str, file: Path, count: int, work_dir: Path) -> float:
    """Return the seconds until a resumed run begins its first new iteration."""
    first = FirstIteration()
    started = time.perf_counter()
    runner = _runner(name, work_dir, dict(interval=10 ** 9, save_last=False), count + 1, load_from=str(file),
                     resume=True)
    runner.register_hook(first)
    # MMEngine prints which file it loads.
    with redirect_stdout(io.StringIO()):
        runner.train()
    if runner.iter != count + 1:
        raise RuntimeError(f'Expected iteration {count + 1} after the resume, but got {runner.iter}.')
    return first.began - started
