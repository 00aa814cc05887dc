"""What a chart shows, and its form for the script in the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmckpt.monitor.run_report.axis import wants_log
from mmckpt.monitor.run_report.curve import Curve, m4, trend
from mmckpt.monitor.run_report.run import Mark

# Stretches into which a curve is thinned in the page: as fine as a zoom gets.
STRETCHES = 400
# The drawing that needs no script is as wide as a phone or a column.
STATIC_STRETCHES = 110
# A curve of so many points is drawn thin, with the medians of so many stretches over it.
DENSE, TREND_STRETCHES = 400, 120


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name (str): Its name in the legend.
        steps (Sequence[float]): Where, ascending.
        values (Sequence[float]): What; values that are not finite break the line.
        colour (int): Number of its colour, which also gives the dash pattern
            once the colours are used up.
        dots (str): ``''``, ``'filled'`` or ``'hollow'``: points instead of a line.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: int = 0
    dots: str = ''

    def thinned(self, stretches: int) -> tuple[list[float], list[float]]:
        """Return at most five points a stretch."""
        return m4(self.steps, self.values, stretches)

    @property
    def dense(self) -> bool:
        """Whether there are too many points to show the course of the curve."""
        return not self.dots and len(self.steps) >= DENSE

    def trend(self) -> tuple[list[float], list[float]]:
        """Return the course of a dense curve; empty for others."""
        return trend(self.steps, self.values, TREND_STRETCHES) if self.dense else ([], [])


@dataclass(frozen=True)
class Peak:
    """The best value of a line, to be marked."""

    step: float
    value: float
    colour: int
    text: str


@dataclass(frozen=True)
class Chart:
    """One chart over iterations.

    Args:
        key (str): Unique in the page.
        title (str): What it shows.
        lines (Sequence[Line]): What to draw.
        unit (str): Unit of the values. Defaults to ''.
        marks (Sequence[Mark]): Events to mark. Defaults to ().
        peaks (Sequence[Peak]): Best values to mark. Defaults to ().
        iters_per_epoch (int, optional): For the epoch in a tooltip.
        wide (bool): Whether it takes the whole width. Defaults to False.
        log_from (float): Ratio of the largest to the median value from which on
            the scale is logarithmic. Defaults to infinity, never.
        zero (bool): Whether the axis begins at 0. Defaults to False.
    """

    key: str
    title: str
    lines: Sequence[Line]
    unit: str = ''
    marks: Sequence[Mark] = ()
    peaks: Sequence[Peak] = ()
    iters_per_epoch: int | None = None
    wide: bool = False
    log_from: float = math.inf
    zero: bool = False

    @property
    def log(self) -> bool:
        """Whether the scale is logarithmic."""
        return wants_log((value for line in self.lines for value in line.values), self.log_from)

    def summary(self) -> str:
        """Say in words what the chart shows, for those who cannot see it."""
        parts = []
        for line in self.lines:
            finite = [value for value in line.values if math.isfinite(value)]
            if finite:
                parts.append(f'{line.name} from {finite[0]:.4g} to {finite[-1]:.4g}, between {min(finite):.4g} '
                             f'and {max(finite):.4g}')
        return f"{self.title}: {'; '.join(parts) or 'no finite value'}."

    def to_json(self) -> str:
        """Return the chart for the script; no text in it can end the element that holds it."""
        content: dict[str, Any] = {
            'title': self.title, 'unit': self.unit, 'log': self.log, 'zero': self.zero, 'ipe': self.iters_per_epoch,
            'lines': [self._line(line) for line in self.lines],
            'marks': [{'x': mark.iter, 'k': mark.kind, 't': mark.text} for mark in self.marks],
            'peaks': [{'x': p.step, 'y': _digits(p.value), 'c': p.colour, 't': p.text} for p in self.peaks],
        }
        text = json.dumps(content, allow_nan=False, separators=(',', ':'))
        return text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')

    def _line(self, line: Line) -> dict[str, Any]:
        steps, values = line.thinned(max(40, STRETCHES // len(self.lines)))
        over, medians = line.trend()
        return {'n': line.name, 'c': line.colour, 'd': line.dots, 'x': [int(step) for step in steps],
                'y': [_digits(value) for value in values], 'tx': [int(step) for step in over],
                'ty': [_digits(value) for value in medians]}


def line_of(name: str, curve: Curve, colour: int = 0) -> Line:
    """Return a curve as a line of a chart."""
    return Line(name, curve.steps, curve.values, colour)


def _digits(value: float) -> float | None:
    """Seven digits that count are more than a drawing shows; what is not finite is a gap."""
    return float(f'{value:.7g}') if math.isfinite(value) else None
