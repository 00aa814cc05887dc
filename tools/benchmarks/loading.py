"""How long a Runner takes to load a checkpoint and to put everything back."""

from __future__ import annotations

import io
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Callable

import torch
from measure import Stopwatch, interleaved, median, sync, table
from workload import SIZES, make_runner

_KINDS = {'MMEngine': 'CheckpointHook', 'mmckpt': 'mmckpt.CheckpointHook'}


def loading_table(sizes: Sequence[str], repeats: int, directory: Path) -> str:
    """Measure resumes of runs whose state has each of several sizes.

    Each is a process of its own, as a resume is: what takes long is that the
    system hands out memory, and a process that has loaded before has it. They
    are forked from one that has done nothing but the imports.
    """
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=directory) as scratch, \
                multiprocessing.get_context('forkserver').Pool(1, maxtasksperchild=1) as pool:
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
    """Return the seconds that choosing, loading and restoring take, in a process of its own."""
    # As torchrun has it; and two threads on two busy cores would measure how they wait for each other.
    torch.set_num_threads(1)
    # Stock MMEngine cannot read its own files under torch >= 2.6 without this.
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = str(int(hook == 'CheckpointHook'))
    warnings.filterwarnings('ignore', '.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    runner = make_runner(SIZES[size], work_dir, dict(type=hook, interval=10 ** 9, save_last=False), epochs=2,
                         resume=True)
    if cold:
        _drop_from_page_cache(work_dir / 'epoch_1.pth')
    watch = Stopwatch()
    runner.load_or_resume = watch.around(runner.load_or_resume)
    runner.call_hook = _only(('before_run', 'before_train'), runner.call_hook, watch)
    # MMEngine prints which file it loads.
    with redirect_stdout(io.StringIO()):
        runner.train()
    if runner.epoch != 2 or runner.iter != 2:
        raise RuntimeError(f'Expected one more epoch after a resume, but got {runner.epoch}: the resume did not work.')
    return watch.seconds


def _only(events: Sequence[str], call_hook: Callable[..., None], watch: Stopwatch) -> Callable[..., None]:
    measured = watch.around(call_hook)
    return lambda event, **kwargs: (measured if event in events else call_hook)(event, **kwargs)


def _drop_from_page_cache(path: Path) -> None:
    # Only clean pages can be dropped.
    sync(path)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
