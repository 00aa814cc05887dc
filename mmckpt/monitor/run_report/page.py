"""The report as one HTML file that needs no network and, to be read, no script."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from mmckpt.monitor.run_report import sections
from mmckpt.monitor.run_report.chart import Chart
from mmckpt.monitor.run_report.figures import figures_of
from mmckpt.monitor.run_report.run import Run
from mmckpt.monitor.run_report.svg import MARK_NAMES, SYMBOLS, draw
from mmckpt.monitor.run_report.timeline import clock, draw_timeline

STYLE = (Path(__file__).with_name('report.css')).read_text(encoding='utf-8')
SCRIPT = (Path(__file__).with_name('report.js')).read_text(encoding='utf-8')


def to_html(runs: Sequence[Run], live: bool = False, now: float | None = None) -> str:
    """Return the report of one run, or of several side by side.

    The charts are SVG of our own, with a script of 16 kB for zoom and cursor: a
    plotting library that embeds itself (plotly: 4 MB) would make the file 40
    times as large, and shows nothing without its script.

    The page may fetch nothing from anywhere: its content security policy
    allows its own script, by digest, and its own style only.

    Args:
        runs (Sequence[Run]): At least one.
        live (bool): Whether the script shall ask its server for news. Defaults to False.
        now (float, optional): Seconds since 1970. Defaults to None, the clock's.

    Returns:
        str: The document.

    Example:
        >>> page = to_html([Run('<b>run</b>', 'work_dirs/x')], now=0.0)
        >>> '&lt;b&gt;run&lt;/b&gt;' in page and '<b>run' not in page
        True
    """
    now = time.time() if now is None else now
    title = ', '.join(run.name for run in runs)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
              "connect-src 'self'")
    return '\n'.join([
        '<!doctype html>', f'<html lang="en"{" data-live" if live else ""}>', '<head>', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">', '<link rel="icon" href="data:,">',
        f'<title>{escape(title)} - training report</title>', f'<style>{STYLE}</style>', '</head>', '<body>', SYMBOLS,
        *_header(runs, title, now), '<main>', *_body(runs, now), '</main>', _footer(now),
        '<div id="tip" role="status" hidden></div>', f'<script>{SCRIPT}</script>', '</body>', '</html>', ''])


def _header(runs: Sequence[Run], title: str, now: float) -> Iterable[str]:
    yield f'<header><h1>{escape(title)}</h1><p class="where">{escape(", ".join(r.work_dir for r in runs))}</p>'
    yield sections.tiles(runs[0], now) if len(runs) == 1 else sections.comparison(runs)
    yield '</header>'


def _body(runs: Sequence[Run], now: float) -> Iterable[str]:
    notes = [f'{run.name}: {note}' for run in runs for note in run.notes]
    if notes:
        yield _section('Notes', '<ul>' + ''.join(f'<li>{escape(note)}</li>' for note in notes) + '</ul>')
    for run in runs:
        yield _section(_titled('Findings', run, runs), sections.findings(run))
    kinds = [kind for kind in MARK_NAMES if any(mark.kind == kind for run in runs for mark in run.marks)]
    figures = figures_of(runs)
    if not figures:
        yield _section('Curves', '<p class="none">There is no scalars.json with a line in it yet.</p>')
    for number, (title, charts) in enumerate(figures):
        key = _mark_key(kinds) if number == 0 and kinds else ''
        yield _section(title, f'{key}<div class="charts">{"".join(map(_figure, charts))}</div>')
    for run in runs:
        yield _section(_titled('Attempts and checkpoints over time', run, runs), _history(run, now))
        text = sections.statistics(run)
        if text:
            yield _section(_titled('Statistics over all iterations', run, runs), text)
    yield _section('Config', sections.config(runs) or '<p class="none">No config lies in the directory.</p>')


def _titled(title: str, run: Run, runs: Sequence[Run]) -> str:
    return title if len(runs) == 1 else f'{title}: {run.name}'


def _section(title: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2>{content}</section>'


def _figure(chart: Chart) -> str:
    unit = f' <span class="unit">({escape(chart.unit)})</span>' if chart.unit else ''
    scale = f'<span class="unit scale">{" log scale" if chart.log else ""}</span>'
    legend = ''
    if len(chart.lines) > 1:
        legend = '<p class="legend">' + ''.join(
            f'<span>{_dot(line.dots, line.colour) if line.dots else sections.key_of(line.colour)}{escape(line.name)}'
            '</span>' for line in chart.lines) + '</p>'
    return (f'<figure class="chart{" wide" if chart.wide else ""}" id="{escape(chart.key)}" tabindex="0">'
            f'<figcaption>{escape(chart.title)}{unit}{scale}</figcaption><div class="plot">{draw(chart)}</div>'
            f'{legend}<script type="application/json">{chart.to_json()}</script></figure>')


def _dot(kind: str, colour: int) -> str:
    return (f'<svg class="key" viewBox="0 0 22 8" aria-hidden="true"><circle class="dot {kind} s{colour % 6}" '
            'cx="11" cy="4" r="3.4"/></svg>')


def _mark_key(kinds: Iterable[str]) -> str:
    items = ''.join(f'<span><svg class="key mark {kind}" viewBox="-6 -6 12 12" aria-hidden="true">'
                    f'<use href="#m-{kind}" x="-6" y="-6" width="12" height="12"/></svg>{MARK_NAMES[kind]}</span>'
                    for kind in kinds)
    return f'<p class="legend">{items}</p>'


def _history(run: Run, now: float) -> str:
    drawing = draw_timeline(run, now)
    key = f'<p class="legend"><span>{_dot("filled", 0)}checkpoint kept</span><span>{_dot("hollow", 0)}dropped since' \
          '</span></p>' if run.checkpoints and drawing else ''
    return (f'<div class="scroll" tabindex="0">{drawing}</div>{key}<h3>Checkpoints</h3>{sections.checkpoints(run)}'
            f'<h3>Attempts</h3>{sections.attempts(run)}')


def _footer(now: float) -> str:
    return (f'<footer><p>Made by mmckpt at {clock(now)}. Curves are means over the logging window of MMEngine, thinned '
            'without losing an extreme; where they are dense, a thick line shows the medians. Drag over a chart to '
            'zoom, double-click to go back; arrow keys move the cursor.</p></footer>')
