"""Tables of checkpoints: as wide as a terminal allows, aligned text in a file or pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mmckpt.cli.console import print_table
from mmckpt.cli.directory import files_of
from mmckpt.store.record import Record

_WRAPPED = ('kept as', 'why', 'process', 'ended')
_STYLES = {'ok': 'green', 'stays': 'green', 'BAD': 'bold red', 'goes': 'yellow'}
_NARROW = 100
_MOST_METRICS = 4


@dataclass(frozen=True)
class Column:
    """A column about checkpoints.

    Args:
        title (str): Its header.
        cell (callable): Gives the text for a record.
        per_name (bool): Whether each name of a file has its own text; else only
            the first one shows it. Defaults to False.
    """

    title: str
    cell: Callable[[Record], str]
    per_name: bool = False


def print_checkpoint_table(title: str, directory: Path, records: Sequence[Record],
                           columns: Sequence[Column]) -> None:
    """Print a row for each name, newest first, with size and metrics; further names of a file follow it.

    Args:
        title (str): A line above the table.
        directory (Path): Where the files lie.
        records (Sequence[Record]): What to list.
        columns (Sequence[Column]): What to tell of each one.
    """
    metrics = metrics_of(records)
    head = ['name', *(column.title for column in columns), *metrics]
    rows = []
    for first, *others in files_of(directory, records):
        values = {**first.metrics, **first.scores}
        rows.append([first.name, *(column.cell(first) for column in columns),
                     *(shown_number(values[name]) if name in values else '' for name in metrics)])
        for record in others:
            cells = (column.cell(record) if column.per_name else '' for column in columns)
            rows.append([f'= {record.name}', *cells, *('' for _ in metrics)])
    # The first metric is worth a broken name.
    print_fitted_table(title, head, rows, optional=max(0, len(metrics) - 1))


def metrics_of(records: Sequence[Record]) -> list[str]:
    """Return the metrics to show, those first by which a best was chosen.

    Example:
        >>> record = Record('best.pth', 1, 1, 1, 3, 9, 0.0, 5, '', (), scores={'AP': 0.5},
        ...                 metrics={'loss': 1.0})
        >>> metrics_of([record])
        ['AP', 'loss']
    """
    judged = dict.fromkeys(sorted({name for record in records for name in record.scores}))
    others = dict.fromkeys(name for record in records for name in record.metrics)
    return list({**judged, **others})


def print_fitted_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]],
                       optional: int = 0) -> None:
    """Print a table without a frame, with as many of its last columns as the terminal has room for.

    Args:
        title (str): A line above the table.
        columns (Sequence[str]): Headers.
        rows (Sequence[Sequence[str]]): Cells.
        optional (int): How many columns from the right may be left out. Defaults to 0.
    """
    if not sys.stdout.isatty():
        shown = len(columns) - max(0, optional + 1 - _MOST_METRICS)
        print_table(title, columns[:shown], [row[:shown] for row in rows])
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    gap = 1 if console.width < _NARROW else 2
    shown, fits = _fitting(columns, rows, console.width, gap, optional)
    # The divider of the box is one blank already.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for i in range(shown):
        wraps = columns[i] in _WRAPPED or (i == 0 and not fits)
        table.add_column(columns[i], overflow='fold', no_wrap=not wraps, justify=_justify(columns, rows, i))
    for row in rows:
        style = 'dim' if row[0].startswith('= ') else ''
        table.add_row(*(Text(cell, style=_STYLES.get(cell, style)) for cell in row[:shown]))
    console.print(Text(title, style='bold'))
    console.print(table)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, gap: int,
             optional: int) -> tuple[int, bool]:
    """Return how many columns to show, and whether they fit without breaking names."""
    used = -gap
    for i, column in enumerate(columns):
        cells = [column, *(row[i] for row in rows)]
        if column in _WRAPPED and width < _NARROW:
            cells = [word for cell in cells for word in cell.split()]
        used += gap + max(map(len, cells))
        if used > width:
            shown = max(i, len(columns) - optional)
            return shown, shown == i
    return len(columns), True


def _justify(columns: Sequence[str], rows: Sequence[Sequence[str]], i: int) -> str:
    numeric = all(not row[i] or row[i][0].isdigit() or row[i][0] in '-ni' for row in rows)
    return 'right' if numeric and columns[i] not in ('name', 'start', *_WRAPPED) else 'left'


def shown_bytes(size: int) -> str:
    """Return a number of bytes in few characters.

    Example:
        >>> shown_bytes(12_345_678), shown_bytes(123_456), shown_bytes(12)
        ('12.3 MB', '123 kB', '12 B')
    """
    for unit, factor in (('TB', 1e12), ('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if size >= factor:
            return f'{size / factor:.{0 if size >= 100 * factor else 1}f} {unit}'
    return f'{size} B'


def shown_duration(seconds: float) -> str:
    """Return a time span in its largest unit; one that is negative, after a change of the clock, as 0.

    Example:
        >>> shown_duration(89), shown_duration(91), shown_duration(3600), shown_duration(200_000), shown_duration(-5)
        ('89s', '2m', '60m', '2d', '0s')
    """
    for unit, factor, most in (('s', 1, 90), ('m', 60, 90), ('h', 3600, 48)):
        if seconds < factor * most:
            return f'{max(0, round(seconds / factor))}{unit}'
    return f'{round(seconds / 86400)}d'


def shown_roles(record: Record) -> str:
    """Return what a file is kept for.

    Example:
        >>> shown_roles(Record('best.pth', 1, 1, 1, 3, 9, 0.0, 5, '', ('periodic', 'best:AP')))
        'periodic, best AP'
    """
    roles = [role.replace('best:', 'best ', 1) for role in record.roles]
    return ', '.join([*roles, 'validation due'] if record.val_pending else roles)


def shown_number(value: float) -> str:
    """Return a metric with four digits that count.

    Example:
        >>> shown_number(0.71234567), shown_number(12345.6), shown_number(float('nan')), shown_number(1.0)
        ('0.7123', '12346', 'nan', '1.000')
    """
    return f'{value:.0f}' if math.isfinite(value) and abs(value) >= 1000 else f'{value:#.4g}'
