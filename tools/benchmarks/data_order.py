"""What the sampler and the data set wrapper that make a resume exact cost per sample."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from measure import interleaved, median, seconds, table
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from workload import Numbers, loader

from mmckpt.data import DeterministicDataset
from mmckpt.data.resumable_batches import DataEntry

_SAMPLES, _BATCH_SIZE, _POSE_ITERATIONS = 10_000, 32, 30
_POSE_CONFIG = Path(__file__).parents[2] / 'configs/pose/digits_keypoints.py'


class IterationTimes(Hook):
    """Notes when each iteration ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the time."""
        self.ends.append(perf_counter())


def data_table(repeats: int, directory: Path) -> str:
    """Measure sampler and wrapper around data that costs nothing, and an iteration of the pose demo."""
    plain, exact, single = (median(times) for times in interleaved(
        [_plain_pass, _exact_pass, _single_samples], repeats))
    per_sample = (exact - plain) / _SAMPLES
    rows = [('sampler and wrapper, in batches', f'{1e6 * per_sample:.1f} us a sample'),
            ('wrapper alone, sample by sample', f'{1e6 * single / _SAMPLES:.1f} us a sample')]
    try:
        iteration, batch_size = _pose_iteration(directory)
    except ImportError as error:
        rows.append(('an iteration of the pose demo', f'not measured: {error}'))
    else:
        share = per_sample * batch_size / iteration
        rows += [(f'an iteration of the pose demo ({batch_size} samples)', f'{1e3 * iteration:.1f} ms'),
                 ('share of sampler and wrapper in it', f'{100 * share:.2f} %')]
    return table(['what', 'cost'], rows)


def _plain_pass() -> float:
    data = Runner.build_dataloader(loader(_SAMPLES, _BATCH_SIZE, sampler=dict(type='DefaultSampler', shuffle=True)))
    return seconds(partial(_exhaust, data))


def _exact_pass() -> float:
    data = Runner.build_dataloader(loader(
        _SAMPLES, _BATCH_SIZE, sampler=dict(type='mmckpt.ResumableSampler', shuffle=True),
        dataset=dict(type='mmckpt.DeterministicDataset', dataset=Numbers(_SAMPLES), seed=0)))
    # As the loops of mmckpt read it.
    entry = DataEntry(data, seed=0, rank=0, world_size=1, endless=False)
    return seconds(lambda: _exhaust(entry.open(epoch=0, batches=0)))


def _single_samples() -> float:
    """Return what reading samples one by one takes longer with the wrapper."""
    plain, wrapped = Numbers(_SAMPLES), DeterministicDataset(Numbers(_SAMPLES), seed=0)
    return (seconds(lambda: _exhaust(wrapped[i] for i in range(_SAMPLES)))
            - seconds(lambda: _exhaust(plain[i] for i in range(_SAMPLES))))


def _exhaust(values: Iterable[Any]) -> None:
    for _ in values:
        pass


def _pose_iteration(directory: Path) -> tuple[float, int]:
    """Train the pose demo for some iterations; return the median seconds of an iteration, and the batch size."""
    cfg = Config.fromfile(_POSE_CONFIG)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=_POSE_ITERATIONS, val_begin=_POSE_ITERATIONS + 1)
    cfg.log_processor.by_epoch = False
    cfg.log_level = 'ERROR'
    times = IterationTimes()
    with tempfile.TemporaryDirectory(dir=directory) as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(times)
        runner.train()
    return median(b - a for a, b in zip(times.ends, times.ends[1:])), cfg.train_dataloader.batch_size
