"""Draws a chart as SVG that needs no script; ``report.js`` draws the same when it zooms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mmckpt.monitor.run_report.axis import Axis, bounds, shown
from mmckpt.monitor.run_report.chart import STATIC_STRETCHES, Chart, Line

HEIGHT, WIDE_HEIGHT = 230, 280
WIDTH, WIDE_WIDTH = 460, 960
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 20, 36
COLOURS = 6

# The marks differ by shape, not only by colour.
SYMBOLS = """<svg width="0" height="0" class="symbols" aria-hidden="true"><defs>
<symbol id="m-spike" viewBox="-6 -6 12 12"><path d="M0-5 5 4H-5Z"/></symbol>
<symbol id="m-nan" viewBox="-6 -6 12 12"><path d="M-4-4 4 4M4-4-4 4" class="cross"/></symbol>
<symbol id="m-finding" viewBox="-6 -6 12 12"><path d="M0-5 5 0 0 5-5 0Z"/></symbol>
<symbol id="m-resume" viewBox="-6 -6 12 12"><path d="M-4-5 5 0-4 5Z"/></symbol>
<symbol id="m-rollback" viewBox="-6 -6 12 12"><path d="M4-5-5 0 4 5Z"/></symbol>
</defs></svg>"""
MARK_NAMES = {'spike': 'loss spike', 'nan': 'NaN or infinity', 'finding': 'other finding', 'resume': 'resume',
              'rollback': 'rollback'}


def draw(chart: Chart) -> str:
    """Return the ``<svg>`` element of a chart."""
    width, height = (WIDE_WIDTH, WIDE_HEIGHT) if chart.wide else (WIDTH, HEIGHT)
    thinned = [line.thinned(STATIC_STRETCHES * (2 if chart.wide else 1)) for line in chart.lines]
    low, high = bounds([value for _, values in thinned for value in values], chart.log, chart.zero)
    x = Axis(0, max(1, *(steps[-1] for steps, _ in thinned if steps), *(mark.iter for mark in chart.marks)),
             LEFT, width - RIGHT)
    y = Axis(low, high, height - BOTTOM, TOP, chart.log)
    parts = [f'<svg class="static" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(chart.summary())}">']
    parts += _grid(x, y, width, height)
    parts += _marks(chart, x, height)
    parts += [_line(line, steps, values, x, y) for line, (steps, values) in zip(chart.lines, thinned)]
    parts += [_path(*line.trend(), x, y, f'line {style_of(line.colour)}') for line in chart.lines]
    parts += [f'<circle class="peak s{peak.colour % COLOURS}" cx="{x.at(peak.step):.1f}" '
              f'cy="{y.at(peak.value):.1f}" r="5"><title>{escape(peak.text)}</title></circle>'
              for peak in chart.peaks if low <= peak.value <= high and peak.step <= x.high]
    return ''.join([*parts, '</svg>'])


def style_of(colour: int) -> str:
    """Return the classes of a colour; beyond the last colour the dash pattern changes."""
    return f's{colour % COLOURS} d{colour // COLOURS % 4}'


def _grid(x: Axis, y: Axis, width: int, height: int) -> list[str]:
    parts = []
    for value in y.ticks(5):
        at = f'{y.at(value):.1f}'
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{width - RIGHT}"/>'
                     f'<text class="tick" x="{LEFT - 6}" y="{at}" dy=".32em" text-anchor="end">{shown(value)}</text>')
    for value in x.ticks(5):
        parts.append(f'<text class="tick" x="{x.at(value):.1f}" y="{height - BOTTOM + 15}" '
                     f'text-anchor="middle">{shown(value)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {height - BOTTOM}H{width - RIGHT}"/>'
                 f'<text class="tick" x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 4}" '
                 'text-anchor="middle">iteration</text>')
    return parts


def _marks(chart: Chart, x: Axis, height: int) -> list[str]:
    return [f'<g class="mark {mark.kind}"><path d="M{x.at(mark.iter):.1f} {TOP - 4}V{height - BOTTOM}"/>'
            f'<use href="#m-{mark.kind}" x="{x.at(mark.iter) - 6:.1f}" y="{TOP - 16}" width="12" height="12"/>'
            f'<title>{escape(mark.text)}</title></g>' for mark in chart.marks]


def _line(line: Line, steps: Sequence[float], values: Sequence[float], x: Axis, y: Axis) -> str:
    if line.dots:
        return ''.join(f'<circle class="dot {line.dots} {style_of(line.colour)}" cx="{p[0]:.1f}" cy="{p[1]:.1f}" '
                       'r="3.5"/>' for p in _points(steps, values, x, y) if p)
    thin = ' thin' if line.dense else ''
    return _path(steps, values, x, y, f'line{thin} {style_of(line.colour)}')


def _points(steps: Sequence[float], values: Sequence[float], x: Axis, y: Axis) -> list[tuple[float, float] | None]:
    return [None if not math.isfinite(value) or (y.log and value <= 0) else (x.at(step), y.at(value))
            for step, value in zip(steps, values)]


def _path(steps: Sequence[float], values: Sequence[float], x: Axis, y: Axis, style: str) -> str:
    points = _points(steps, values, x, y)
    path, pen_up = [], True
    for i, point in enumerate(points):
        if point is None:
            pen_up = True
            continue
        path.append(f"{'M' if pen_up else 'L'}{point[0]:.1f} {point[1]:.1f}")
        if pen_up and (i + 1 == len(points) or points[i + 1] is None):
            # A point without neighbours would not show.
            path.append('h.01')
        pen_up = False
    return f'<path class="{style}" d="{"".join(path)}"/>' if path else ''
