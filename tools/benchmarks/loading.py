"""How long a Runner takes to load a checkpoint and to put everything back."""

from __future__ import annotations

import io
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from measure import interleaved, median, table
from workload import SIZES, make_runner

_KINDS = {'MMEngine': 'CheckpointHook', 'mmckpt': 'mmckpt.CheckpointHook'}


def loading_table(sizes: Sequence[str], repeats: int, directory: Path) -> str:
    """Measure resumes of runs whose state has each of several sizes.

    Each is a process of its own, as a resume is: what takes long is that the
    system hands out memory, and a process that has loaded before has it.
    """
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=directory) as scratch, \
                multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
            work_dirs = {name: Path(scratch) / name for name in _KINDS}
            for name, work_dir in work_dirs.items():
                pool.apply(_train, (_KINDS[name], size, work_dir))
            cases = [(name, cold) for cold in (False, True) for name in _KINDS]
            results = interleaved(
                [partial(pool.apply, _resume, (_KINDS[name], size, work_dirs[name], cold)) for name, cold in cases],
                repeats)
        medians = dict(zip(cases, map(median, results)))
        rows += [(size, 'cold' if cold else 'warm', name, f'{1e3 * one:.0f}',
                  f'{one / medians["MMEngine", cold]:.2f}') for (name, cold), one in medians.items()]
    return table(['state', 'file is', 'resume by', 'ms', 'x MMEngine'], rows)


def _train(hook: str, size: str, work_dir: Path) -> None:
    make_runner(SIZES[size], work_dir, dict(type=hook, interval=1)).train()


def _resume(hook: str, size: str, work_dir: Path, cold: bool) -> float:
    """Return the seconds from ``before_run`` to the end of ``before_train``."""
    # Stock MMEngine cannot read its own files under torch >= 2.6 without this.
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = str(int(hook == 'CheckpointHook'))
    warnings.filterwarnings('ignore', '.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    # A step is trained as well: a load that leaves work for later is no faster.
    runner = make_runner(SIZES[size], work_dir, dict(type=hook, interval=10 ** 9, save_last=False), epochs=2,
                         resume=True)
    if cold:
        _drop_from_page_cache(work_dir / 'epoch_1.pth')
    times: dict[str, float] = {}
    call_hook = runner.call_hook

    def timed(event: str, **kwargs: Any) -> None:
        if event == 'before_run':
            times[event] = time.perf_counter()
        call_hook(event, **kwargs)
        if event == 'before_train':
            times[event] = time.perf_counter()

    runner.call_hook = timed
    # MMEngine prints which file it loads.
    with redirect_stdout(io.StringIO()):
        runner.train()
    if runner.epoch != 2 or runner.iter != 2:
        raise RuntimeError(f'Expected one more epoch after a resume, but got {runner.epoch}: the resume did not work.')
    return times['before_train'] - times['before_run']


def _drop_from_page_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    # Only clean pages can be dropped.
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
