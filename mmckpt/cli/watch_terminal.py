"""A live table of a run in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmckpt.monitor.run_report import Run, RunReader
from mmckpt.monitor.run_report.axis import shown
from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.sections import progress_of
from mmckpt.monitor.run_report.sparkline import BLOCKS, PLAIN, sparkline
from mmckpt.monitor.run_report.timeline import duration, size

PAUSE = 2.0
# Logged values over which the mean of the table goes.
RECENT = 10
LOG_FROM = 10.0
# Characters between two columns.
GAP = 3
MOST_FINDINGS = 5
STYLES = {'finished': 'green', 'running': 'green', 'killed': 'red', 'exception': 'red', 'error': 'bold red',
          'warning': 'yellow', 'info': ''}


def follow(reader: RunReader, console: Console | None = None, pause: Callable[[float], None] = time.sleep) -> None:
    """Show a run until it has ended (one of stock MMEngine until Ctrl-C); once, where the output is no terminal.

    Args:
        reader (RunReader): The run.
        console (Console, optional): Where to. Defaults to None, standard output.
        pause (callable): Waits for some seconds. Defaults to ``time.sleep``.
    """
    console = console or Console()
    run = reader.read()
    if not console.is_terminal or not _may_go_on(run):
        console.print(picture(run, console))
        return
    with Live(picture(run, console), console=console, auto_refresh=False, vertical_overflow='visible') as live:
        while _may_go_on(run):
            pause(PAUSE)
            run = reader.read()
            live.update(picture(run, console), refresh=True)


def _may_go_on(run: Run) -> bool:
    """Of a stock run, and of one that has not begun, nobody knows whether it will."""
    return run.reason in ('running', 'not recorded', 'unknown', '')


def picture(run: Run, console: Console) -> Group:
    """Return what is shown of a run."""
    blocks = BLOCKS if (console.encoding or sys.getdefaultencoding()).lower().startswith('utf') else PLAIN
    head = Text.assemble((run.name, 'bold'), '  ', (run.status, STYLES.get(run.reason, '')), '  ', progress_of(run),
                         _remaining(run))
    room = console.width
    return Group(head, *_curves(run, room, blocks), *_metrics(run, room, blocks), *_saves(run), *_findings(run))


def _remaining(run: Run) -> str:
    if run.reason != 'running' or not run.max_iters or 'time' not in run.train:
        return ''
    left = (run.max_iters - run.iter) * run.train['time'].last
    return f', about {duration(left)} to go, validations aside' if left > 0 else ''


def _curves(run: Run, room: int, blocks: str) -> Iterable[Table]:
    names = sorted(run.train, key=lambda name: (name != 'loss', 'loss' not in name))
    if names:
        rows = []
        for name in names:
            curve = run.train[name]
            finite, recent = curve.finite(), curve.values[-RECENT:]
            cells = (curve.last, sum(recent) / len(recent), min(finite, default=curve.last),
                     max(finite, default=curve.last))
            rows.append(([name, *map(shown, cells)], curve.values))
        columns = 'scalar', 'last', f'mean of {RECENT}', 'smallest', 'largest'
        yield _table(columns, rows, room, partial(sparkline, blocks=blocks, log_from=LOG_FROM))


def _metrics(run: Run, room: int, blocks: str) -> Iterable[Table]:
    names = list(dict.fromkeys([*run.judged(), *run.val]))
    if names:
        rows = []
        for name in names:
            best = run.best.get(name)
            curve = run.val.get(name, Curve())
            cells = (shown(best.value), str(best.iter)) if best else ('', '')
            rows.append(([name, shown(curve.last), *cells, ''], curve.values))
        yield _table(('metric', 'last', 'best', 'at iteration', ''), rows, room, partial(sparkline, blocks=blocks))


def _saves(run: Run) -> Iterable[Text]:
    kept = [checkpoint for checkpoint in run.checkpoints if checkpoint.kept]
    if kept:
        newest = kept[-1]
        age = duration(time.time() - newest.time)
        yield Text(f'\nnewest checkpoint: {newest.name}, {size(newest.size)}, {age} ago')


def _findings(run: Run) -> Iterable[Text]:
    for finding in run.findings[-MOST_FINDINGS:]:
        times = f' ({finding.count} times)' if finding.count > 1 else ''
        yield Text.assemble((finding.severity, STYLES.get(finding.severity, '')), f': {finding.message}{times}')


def _table(columns: Sequence[str], rows: Sequence[tuple[list[str], Sequence[float]]], room: int,
           draw: Callable[..., str]) -> Table:
    """A table with a course at the end, which is as wide as the rest leaves it: cut off, it would lack the newest."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate([*columns, 'course']):
        table.add_column(column, justify='left' if number in (0, len(columns)) else 'right', no_wrap=True)
    rest = sum(max(map(len, cells)) + GAP for cells in zip(columns, *(cells for cells, _ in rows)))
    width = max(8, min(60, room - rest))
    for cells, values in rows:
        table.add_row(*map(Text, cells), draw(values, width))
    return table
