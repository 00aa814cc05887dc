"""Which charts a report of one or several runs has."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mmckpt.monitor.run_report.axis import shown
from mmckpt.monitor.run_report.chart import Chart, Line, Peak, line_of
from mmckpt.monitor.run_report.run import Mark, Run

LR = re.compile(r'(^|[/.])(base_)?lr$')
MOMENTUM = re.compile(r'(^|[/.])(momentum|betas)$')
MACHINE = {'memory': ('largest memory on the device so far', 'MB'),
           'mmckpt/gpu_memory': ('memory in use on the device', 'MB'),
           'mmckpt/gpu_utilization': ('load of the GPU', '%'),
           'mmckpt/memory': ('memory of the main process', 'MB')}
TIMES = {'time': 'iteration', 'data_time': 'of it, waiting for data'}
# A scale is logarithmic from this ratio of the largest to the median value on; metrics never are.
LOG_FROM = {'loss': 8.0, 'grad': 8.0, 'lr': 8.0}
Figures = Sequence[tuple[str, Sequence[Chart]]]


def figures_of(runs: Sequence[Run]) -> Figures:
    """Return the charts by section; empty sections are left out.

    Args:
        runs (Sequence[Run]): One run, or several to be compared.

    Returns:
        Sequence: Pairs of a heading and its charts.
    """
    kinds = {name: _kind(name) for run in runs for name in run.train}
    sections = [
        ('Training loss', _charts(runs, _of(kinds, 'loss'), 'train', wide_first=True)),
        ('Validation', _charts(runs, _metrics(runs), 'val')),
        ('Other scalars of the training', _charts(runs, _of(kinds, 'other'), 'train')),
        ('Optimiser and machine',
         [*_optimiser(runs, [*_of(kinds, 'lr'), *_of(kinds, 'grad')]), *_times(runs), *_memory(runs)]),
        ('Saving', _saves(runs)),
    ]
    return [(title, charts) for title, charts in sections if charts]


def _kind(name: str) -> str:
    if LR.search(name):
        return 'lr'
    if MOMENTUM.search(name):
        return 'momentum'
    if 'grad_norm' in name:
        return 'grad'
    if name in TIMES or name in MACHINE:
        return 'machine'
    return 'loss' if 'loss' in name else 'other'


def _of(kinds: Mapping[str, str], wanted: str) -> list[str]:
    names = [name for name, kind in kinds.items() if kind == wanted]
    # The sum before its terms, as in the model's line; base_lr repeats lr.
    if wanted == 'lr':
        names = [name for name in names if not name.endswith('base_lr')] or names
    return sorted(names, key=lambda name: name != 'loss')


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Those first by which checkpoints were chosen."""
    present = dict.fromkeys(name for run in runs for name in run.val)
    first = [name for run in runs for name in run.judged() if name in present]
    return list(dict.fromkeys([*first, *present]))


def _charts(runs: Sequence[Run], names: Sequence[str], part: str, wide_first: bool = False) -> list[Chart]:
    charts = []
    for number, name in enumerate(names):
        lines = [line_of(run.name if len(runs) > 1 else name, getattr(run, part)[name], colour)
                 for colour, run in enumerate(runs) if name in getattr(run, part)]
        peaks = [_peak(run, name, colour) for colour, run in enumerate(runs) if part == 'val' and name in run.best]
        charts.append(Chart(
            key=f'{part}-{name}', title=name, lines=lines, marks=_marks(runs, part, name), peaks=peaks,
            iters_per_epoch=_epoch_of(runs), wide=wide_first and number == 0,
            log_from=LOG_FROM.get(_kind(name), math.inf)))
    return charts


def _peak(run: Run, name: str, colour: int) -> Peak:
    best = run.best[name]
    epoch = f' (epoch {best.iter / run.iters_per_epoch:g})' if run.iters_per_epoch else ''
    return Peak(best.iter, best.value, colour, f'best of {run.name}: {shown(best.value)} at iteration '
                                               f'{best.iter}{epoch}; {best.rule} is better')


def _marks(runs: Sequence[Run], part: str, name: str) -> list[Mark]:
    """Findings of the training belong to the loss and to what they are about; a resume is worth seeing everywhere."""
    marks = [(run, mark) for run in runs for mark in run.marks
             if mark.part == 'all' or (mark.part == part and (name in mark.about or (part, name) == ('train', 'loss')))]
    return [replace(mark, text=f'{run.name}: {mark.text}') if len(runs) > 1 else mark for run, mark in marks]


def _epoch_of(runs: Sequence[Run]) -> int | None:
    lengths = {run.iters_per_epoch for run in runs}
    return lengths.pop() if len(lengths) == 1 else None


def _optimiser(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    titles = {'grad_norm': 'gradient norm, before clipping', 'lr': 'learning rate'}
    return [replace(chart, title=titles.get(chart.title, chart.title)) for chart in _charts(runs, names, 'train')]


def _times(runs: Sequence[Run]) -> list[Chart]:
    if len(runs) > 1:
        titles = {'time': 'time of an iteration', 'data_time': 'time waiting for data, of an iteration'}
        return [replace(chart, title=titles[chart.title], unit='s', zero=True)
                for chart in _charts(runs, [n for n in TIMES if any(n in run.train for run in runs)], 'train')]
    run = runs[0]
    lines = [line_of(text, run.train[name], colour) for colour, (name, text) in enumerate(TIMES.items())
             if name in run.train]
    return [Chart('time', 'time of an iteration', lines, 's', _marks(runs, 'machine', ''),
                  iters_per_epoch=run.iters_per_epoch, zero=True)] if lines else []


def _memory(runs: Sequence[Run]) -> list[Chart]:
    charts = _charts(runs, [name for name in MACHINE if any(name in run.train for run in runs)], 'train')
    return [replace(chart, title=MACHINE[chart.title][0], unit=MACHINE[chart.title][1], zero=True, marks=[
        mark for mark in chart.marks if mark.part == 'all']) for chart in charts]


def _saves(runs: Sequence[Run]) -> list[Chart]:
    """Size and blocked time of each file that was written; links cost nothing and are left out."""
    blocked = _dots(runs, lambda c: math.nan if c.blocked is None else c.blocked)
    sizes = _dots(runs, lambda c: c.size / 1e6)
    charts = [Chart('blocked', 'training stood still for a save', list(blocked), 's', zero=True),
              Chart('sizes', 'size of a checkpoint', list(sizes), 'MB', zero=True)]
    return [replace(chart, iters_per_epoch=_epoch_of(runs)) for chart in charts
            if any(math.isfinite(value) for line in chart.lines for value in line.values)]


def _dots(runs: Sequence[Run], value_of: Callable[..., float]) -> Iterable[Line]:
    for colour, run in enumerate(runs):
        for kept in (True, False):
            saves = {c.iter: value_of(c) for c in run.checkpoints if c.kept == kept and c.iter}
            if saves:
                name = 'kept' if kept else 'dropped since'
                steps = sorted(saves)
                yield Line(f'{run.name}: {name}' if len(runs) > 1 else name, steps, [saves[s] for s in steps], colour,
                           'filled' if kept else 'hollow')
