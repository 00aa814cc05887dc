"""When which process trained, and when it wrote checkpoints, as a drawing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from mmckpt.monitor.run_report.run import AttemptSpan, Checkpoint, Run

WIDTH, ROW, LEFT, RIGHT, TOP = 960, 30, 120, 16, 8
MOST_ATTEMPTS = 20
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000)


def draw_timeline(run: Run, now: float) -> str:
    """Return an ``<svg>`` with a bar for each attempt and a mark for each checkpoint.

    Args:
        run (Run): The run; its newest 20 attempts are drawn.
        now (float): Seconds since 1970, where a running attempt's bar ends.

    Returns:
        str: The element, or ``''`` where nothing is known.
    """
    attempts = run.attempts[-MOST_ATTEMPTS:]
    if not attempts:
        return ''
    first = attempts[0].start
    last = max([first + 1, *(_stop(a, now) for a in attempts), *(c.time for c in run.checkpoints)])
    height = TOP + ROW * len(attempts) + 26
    label = f'{len(run.attempts)} attempts and {len(run.checkpoints)} checkpoints over time'
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}" class="timeline">']
    parts += _time_axis(first, last, height)
    for row, attempt in enumerate(attempts):
        later = attempts[row + 1].start if row + 1 < len(attempts) else float('inf')
        saves = [c for c in run.checkpoints if attempt.start <= c.time < later]
        parts += _row(attempt, saves, TOP + ROW * row, first, last, now)
    return ''.join([*parts, '</svg>'])


def _stop(attempt: AttemptSpan, now: float) -> float:
    return now if attempt.how == 'running' else max(attempt.stop or 0.0, attempt.start)


def _at(moment: float, first: float, last: float) -> float:
    return LEFT + (moment - first) / (last - first) * (WIDTH - LEFT - RIGHT)


def _row(attempt: AttemptSpan, saves: Sequence[Checkpoint], top: float, first: float, last: float,
         now: float) -> list[str]:
    start, stop = _at(attempt.start, first, last), _at(_stop(attempt, now), first, last)
    text = (f'attempt {attempt.number}: {attempt.how}, began {clock(attempt.start)}, '
            f'{duration(_stop(attempt, now) - attempt.start)}')
    parts = [f'<text class="tick" x="{LEFT - 8}" y="{top + 17}" text-anchor="end">{attempt.number}: '
             f'{escape(attempt.how[:14])}</text>',
             f'<rect class="bar {style_of(attempt.how)}" x="{start:.1f}" y="{top + 5}" '
             f'width="{max(2.0, stop - start):.1f}" height="16" rx="3"><title>{escape(text)}</title></rect>']
    for save in saves[-400:]:
        x = _at(save.time, first, last)
        kind = 'filled' if save.kept else 'hollow'
        parts.append(f'<circle class="save {kind}" cx="{x:.1f}" cy="{top + 13}" r="4">'
                     f'<title>{escape(_save_text(save))}</title></circle>')
    return parts


def _save_text(save: Checkpoint) -> str:
    blocked = '' if save.blocked is None else f', training stood still for {save.blocked:.3g} s'
    return (f"{save.name}: {size(save.size)}{blocked}, {'kept' if save.kept else 'dropped since'}, "
            f'{clock(save.time)}')


def style_of(how: str) -> str:
    """Return the class of an end: good, bad, or neither."""
    if how in ('finished', 'running'):
        return 'good'
    return 'bad' if how in ('exception', 'killed') else 'plain'


def _time_axis(first: float, last: float, height: int) -> list[str]:
    step = next((step for step in STEPS if (last - first) / step <= 6), STEPS[-1] * 12)
    form = '%H:%M:%S' if step < 60 else '%H:%M' if last - first < 86400 else '%m-%d %H:%M'
    offset = time.localtime(first).tm_gmtoff
    tick = ((first + offset) // step + 1) * step - offset
    parts = []
    while tick < last:
        x = f'{_at(tick, first, last):.1f}'
        parts.append(f'<path class="grid" d="M{x} {TOP}V{height - 24}"/><text class="tick" x="{x}" y="{height - 8}" '
                     f'text-anchor="middle">{time.strftime(form, time.localtime(tick))}</text>')
        tick += step
    return parts


def clock(moment: float) -> str:
    """Return a moment as local date and time."""
    return time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment))


def duration(seconds: float) -> str:
    """Return a time span in its two largest units.

    Example:
        >>> duration(59.4), duration(3725), duration(200000)
        ('59 s', '1 h 2 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    units = [('d', whole // 86400), ('h', whole // 3600 % 24), ('min', whole // 60 % 60), ('s', whole % 60)]
    first = next((i for i, (_, count) in enumerate(units) if count), 3)
    return ' '.join(f'{count} {unit}' for unit, count in units[first:first + 2] if count or unit == units[first][0])


def size(count: int) -> str:
    """Return a number of bytes in few characters.

    Example:
        >>> size(12_345_678), size(999)
        ('12.3 MB', '999 B')
    """
    for unit, factor in (('TB', 1e12), ('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= factor:
            return f'{count / factor:.1f} {unit}'
    return f'{count} B'
