"""The outline of a checkpoint on a terminal, and as aligned text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mmckpt.cli.checkpoint_table import shown_bytes
from mmckpt.files.outline import Line
from mmckpt.files.values import Statistics

_MOST_LINES = 100
_WIDEST_NAME, _NARROWEST_NAME, _WIDEST_VALUE, _NARROWEST_VALUE = 52, 24, 60, 14
_COLUMNS = ('', 'value', 'dtype', 'size', 'share')


def print_outline(root: Line, chosen: list[Line] | None, stats: dict[str, Statistics | None]) -> None:
    """Print an outline, folded where it would be too long to be read.

    Args:
        root (Line): The outline.
        chosen (list[Line] or None): The entries to list in full, instead of the tree.
        stats (dict): Statistics by path of the tensors that were read.
    """
    if chosen is not None:
        rows = [('', _row(line, line.path, root.nbytes, stats)) for line in chosen]
        folded = False
    else:
        rows, folded = _tree_rows(root, stats)
    columns = [*_COLUMNS, *(['values'] if stats else [])]
    _print_aligned(columns, rows)
    if folded:
        print('folded: --keys PATTERN lists what is inside')


def _tree_rows(root: Line, stats: dict[str, Statistics | None]) -> tuple[list[tuple[str, list[str]]], bool]:
    depth = 1
    while depth < 12 and _count(root, depth + 1) <= _MOST_LINES:
        depth += 1
    return list(_walk(root, root, '', depth, stats)), _count(root, depth) < _count(root, 12)


def _count(line: Line, depth: int) -> int:
    return sum(1 + _count(child, depth - 1) for child in _shown(line)) if depth else 0


def _shown(line: Line) -> list[Line]:
    """What is listed below a line: the moments of each parameter, and what is nested deep, are a single line."""
    if line.text.endswith(' logged') or (
            line.name == 'state' and all(child.name.isdigit() for child in line.below)):
        return []
    return line.below if line.tensors or line.path.count('.') < 1 else []


def _walk(line: Line, root: Line, indent: str, depth: int,
          stats: dict[str, Statistics | None]) -> Iterator[tuple[str, list[str]]]:
    below = _shown(line)
    shown = below[:_MOST_LINES]
    for i, child in enumerate(shown):
        last = i == len(below) - 1
        yield indent + ('└─ ' if last else '├─ '), _row(child, child.name, root.nbytes, stats)
        if depth > 1:
            yield from _walk(child, root, indent + ('   ' if last else '│  '), depth - 1, stats)
    if len(below) > len(shown):
        yield f'{indent}└─ ', [f'... {len(below) - len(shown)} more', '', '', '', '', *([''] if stats else [])]


def _row(line: Line, name: str, total: int, stats: dict[str, Statistics | None]) -> list[str]:
    text = line.text
    if line.tensors and line.ref is None and not line.text:
        text = f'{line.tensors} tensor{"s" if line.tensors > 1 else ""}'
    size = shown_bytes(line.nbytes) if line.tensors and line.nbytes < 1 << 62 else '?' if line.tensors else ''
    share = f'{100 * line.nbytes / total:.1f} %' if line.tensors and 0 < total < 1 << 62 else ''
    return [name, text, line.dtype, size, share, *([_values(line, stats)] if stats else [])]


def _values(line: Line, stats: dict[str, Statistics | None]) -> str:
    known = stats.get(line.path)
    if known is None:
        return ''
    flags = [f'{known.nan} NaN'] * bool(known.nan) + [f'{known.inf} inf'] * bool(known.inf) + ['only 0'] * known.zero
    spread = '' if known.low is None or known.zero else f'{known.low:.4g} to {known.high:.4g}, mean {known.mean:.4g}'
    return ', '.join([*flags, *([spread] if spread else [])])


def _print_aligned(columns: list[str], rows: list[tuple[str, list[str]]]) -> None:
    """Print rows under each other; on a terminal in its width and in colour, names in full."""
    from rich.console import Console
    from rich.text import Text

    drawn = sys.stdout.isatty()
    # In a pipe, two blanks a level are what scripts and eyes can follow.
    cells = [[(guide if drawn else '  ' * (len(guide) // 3)) + row[0], *row[1:]] for guide, row in rows]
    widths = [max((len(row[i]) for row in cells), default=0) for i in range(len(columns))]
    widths[1] = min(widths[1], _WIDEST_VALUE)
    if any(guide for guide, _ in rows):
        # The paths that --keys lists are there to be copied, names in a tree are not.
        widths[0] = min(widths[0], _WIDEST_NAME)
    console = Console(soft_wrap=True)
    shown = _fitted(widths, console.width) if drawn else range(len(widths))
    for row in cells:
        line = [_cut(row[i], widths[i]).rjust(widths[i]) if i in (3, 4) else _cut(row[i], widths[i]).ljust(widths[i])
                for i in shown]
        while not line[-1].strip() and len(line) > 1:
            line.pop()
        line[-1] = line[-1].rstrip()
        if not drawn:
            print('  '.join(line).rstrip())
            continue
        bad = len(row) > 5 and ('NaN' in row[5] or 'inf' in row[5])
        styles = ['bold red' if bad else '', 'cyan', 'green', '', 'dim', 'bold red' if bad else '']
        console.print(Text('  ').join(Text(cell, style=styles[i]) for cell, i in zip(line, shown)))


def _fitted(widths: list[int], width: int) -> list[int]:
    """Narrow the columns of values and names until a row fits, and leave columns out where that is not enough."""
    shown = list(range(len(widths)))

    def too_much() -> int:
        return max(0, sum(widths[i] for i in shown) + 2 * (len(shown) - 1) - width)

    widths[1] = max(min(widths[1], _NARROWEST_VALUE), widths[1] - too_much())
    # With the values of --stats a row is long; the share, the size and the dtype say least then.
    for i in (4, 3, 2) if len(widths) > 5 else ():
        if max(0, too_much() - (widths[0] - _NARROWEST_NAME)):
            shown.remove(i)
    if len(widths) > 5:
        widths[0] = max(min(widths[0], _NARROWEST_NAME), widths[0] - too_much())
    return shown


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f'{text[:width - 3]}...'
