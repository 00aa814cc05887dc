"""Tables of checkpoints: drawn for the width of a terminal, aligned text in a file or pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence

from mmckpt.cli.console import print_table
from mmckpt.store.record import Record

# Cells of these columns may be broken over lines; all others stay whole, so that they can be copied.
_WRAPPED = ('kept as', 'metrics', 'why', 'ended')
_RIGHT = ('epoch', 'iter', 'age', 'size', 'no')
_STYLES = {'ok': 'green', 'stays': 'green', 'BAD': 'bold red', 'goes': 'yellow', '?': 'yellow'}
_LINK = 'link'
_MOST_METRICS = 4


def print_wide_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of many columns; without frames it fits 80 columns.

    Args:
        title (str): A line above it.
        columns (Sequence[str]): Headers; what they are called decides how they are set.
        rows (Sequence[Sequence[str]]): Cells.
    """
    if not sys.stdout.isatty():
        print_table(title, columns, rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style='bold'), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False,
                  show_edge=False, padding=(0, 1), collapse_padding=True)
    for column in columns:
        table.add_column(column, justify='right' if column in _RIGHT else 'left', overflow='fold',
                         no_wrap=column not in _WRAPPED)
    for row in rows:
        style = 'dim' if _LINK in row else ''
        table.add_row(*(Text(cell, style=_STYLES.get(cell, style)) for cell in row))
    Console().print(table)


def name_cell(record: Record, is_link: bool) -> str:
    """Return the name of a file, marked where the file is listed above under another name."""
    return f'= {record.name}' if is_link else record.name


def size_cell(size: int, is_link: bool) -> str:
    """Return a size in bytes for people, or that the bytes are those of the file above."""
    return _LINK if is_link else shown_bytes(size)


def shown_bytes(size: int) -> str:
    """Return a number of bytes in few characters.

    Example:
        >>> shown_bytes(12_345_678), shown_bytes(1_300), shown_bytes(12)
        ('12.3 MB', '1.3 kB', '12 B')
    """
    for unit, factor in (('TB', 1e12), ('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size} B'


def shown_duration(seconds: float) -> str:
    """Return a time span in its largest unit; one that is negative, after a change of the clock, as 0.

    Example:
        >>> shown_duration(59), shown_duration(3600), shown_duration(200_000), shown_duration(-5)
        ('59 s', '60 min', '2 d', '0 s')
    """
    for unit, factor, most in (('s', 1, 90), ('min', 60, 90), ('h', 3600, 48)):
        if seconds < factor * most:
            return f'{max(0, int(seconds / factor))} {unit}'
    return f'{int(seconds / 86400)} d'


def roles_cell(record: Record) -> str:
    """Return what a file is kept for.

    Example:
        >>> roles_cell(Record('best.pth', 1, 1, 1, 3, 9, 0.0, 5, '', ('periodic', 'best:AP')))
        'periodic, best AP'
    """
    return ', '.join(role.replace('best:', 'best ', 1) for role in record.roles)


def metrics_cell(record: Record, first: Collection[str] = ()) -> str:
    """Return the metrics of a file, those that decide something first, the rest only counted.

    Args:
        record (Record): The record.
        first (Collection[str]): Metrics that come first. Defaults to ().

    Example:
        >>> record = Record('epoch_3.pth', 1, 1, 1, 3, 9, 0.0, 5, '', (),
        ...                 metrics={'loss': 1, 'AP': 0.71234567})
        >>> metrics_cell(record, ['AP'])
        'AP 0.7123, loss 1'
    """
    values = {**record.metrics, **record.scores}
    names = sorted(values, key=lambda name: name not in first)
    shown = [f'{name} {shown_number(values[name])}' for name in names[:_MOST_METRICS]]
    rest = len(names) - len(shown)
    return ', '.join([*shown, *([f'{rest} more'] if rest else [])])


def shown_number(value: float) -> str:
    """Return a metric with four digits that count.

    Example:
        >>> shown_number(0.71234567), shown_number(12345.6), shown_number(float('nan')), shown_number(1.0)
        ('0.7123', '12346', 'nan', '1')
    """
    return f'{value:.0f}' if math.isfinite(value) and abs(value) >= 1000 else f'{value:.4g}'
