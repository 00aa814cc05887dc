"""What the commands print."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mmengine.dist import is_main_process


def say(text: str) -> None:
    """Print a line of mmckpt's own, once for all ranks."""
    if is_main_process():
        print(fitted(f'mmckpt: {text}', hang=2), flush=True)


def warn(text: str) -> None:
    """Print a warning to stderr, once for all ranks."""
    if is_main_process():
        print(fitted(f'mmckpt: warning: {text}', hang=2, stream=sys.stderr), file=sys.stderr, flush=True)


def fitted(text: str, hang: int = 0, stream: TextIO | None = None) -> str:
    """Return a text broken between words where a terminal would break it anywhere; unchanged for a file or pipe.

    Args:
        text (str): Its own line breaks and leading blanks stay.
        hang (int): Blanks before what goes on in the next line. Defaults to 0.
        stream (file object, optional): Where it will be printed. Defaults to None, stdout.
    """
    if not (stream or sys.stdout).isatty():
        return text
    width = shutil.get_terminal_size().columns
    return '\n'.join(textwrap.fill(line, width, subsequent_indent=' ' * hang, break_long_words=False,
                                   break_on_hyphens=False) for line in text.split('\n'))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn by rich on a terminal, aligned text in a file or pipe.

    Example:
        >>> print_table('Best checkpoints', ['metric', 'score'], [['AP', '0.72'], ['PCK', '0.91']])
        Best checkpoints
          metric  score
          AP      0.72
          PCK     0.91
    """
    if sys.stdout.isatty():
        _print_rich_table(title, columns, rows)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(title)
    for row in [columns, *rows]:
        print('  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    sys.stdout.flush()


def _print_rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify='left')
    for column in columns:
        # A path that is broken over lines cannot be copied.
        table.add_column(column, overflow='fold')
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def shown_path(path: str | Path) -> str:
    """Return a path as short as it can be pasted into this shell: relative if it lies below."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def command_line(command: str, *arguments: str | Path) -> str:
    """Return what to type for another command, in the form in which this one was started.

    Args:
        command (str): Name of the command, such as ``'test'``.
        *arguments (str or Path): Its arguments.

    Example:
        >>> command_line('test', 'cfg.py', 'my run/best_AP_epoch_7.pth')
        "mmckpt test cfg.py 'my run/best_AP_epoch_7.pth'"
    """
    started, script = Path(sys.argv[0]), Path(sys.argv[0]).with_name(f'{command.replace("-", "_")}.py')
    is_tool = started.suffix == '.py' and started.parent.name == 'tools' and script.is_file()
    program = f'python {shlex.quote(shown_path(script))}' if is_tool else f'mmckpt {command}'
    return ' '.join([program, *(shlex.quote(shown_path(a)) for a in arguments)])
