"""The parts of a report that are read: tiles, findings, tables, config."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from mmckpt.monitor.run_report.axis import shown
from mmckpt.monitor.run_report.run import Checkpoint, FindingNote, Run
from mmckpt.monitor.run_report.svg import style_of as colour_of
from mmckpt.monitor.run_report.timeline import clock, duration, size, style_of

MOST_ROWS = 200
MOST_FINDINGS = 100
MOST_TILES = 2
STATISTICS = {'mean': 'mean', 'std': 'std', 'min': 'smallest', 'p5': '5 %', 'p50': 'median', 'p95': '95 %',
              'max': 'largest', 'final': 'last', 'non_finite': 'NaN/Inf'}
SIGNS = {'error': 'Error', 'warning': 'Warning', 'info': 'Note'}


def tiles(run: Run, now: float) -> str:
    """Return the figures that people look for first."""
    share = f', {100 * run.iter / run.max_iters:.0f} %' if run.max_iters else ''
    done = f'epoch {run.epoch}' if run.epoch else f'iteration {run.iter}'
    cells = [('status', run.status, style_of(run.reason)), ('progress', done + share, '')]
    cells += [(f'best {name}', shown(run.best[name].value), '') for name in run.judged()[:MOST_TILES]]
    if 'loss' in run.train:
        cells.append(('last training loss', shown(run.train['loss'].last), ''))
    if run.attempts:
        trained = sum((now if a.how == 'running' else a.stop or a.start) - a.start for a in run.attempts)
        often = f', {len(run.attempts)} attempts' if len(run.attempts) > 1 else ''
        cells.append((f'time in training{often}', duration(trained), ''))
    serious = sum(finding.severity != 'info' for finding in run.findings)
    looked = run.statistics or run.findings
    cells.append(('findings', str(serious) if serious else 'none' if looked else 'not looked for',
                  'bad' if serious else 'good' if looked else ''))
    return '<dl class="tiles">' + ''.join(
        f'<div><dt>{escape(name)}</dt><dd class="{style}">{escape(value)}</dd></div>'
        for name, value, style in cells) + '</dl>'


def progress_of(run: Run) -> str:
    """Say how far a run came."""
    total = f' of {run.max_iters}' if run.max_iters else ''
    return f"{f'epoch {run.epoch}, ' if run.epoch else ''}iteration {run.iter}{total}"


def comparison(runs: Sequence[Run]) -> str:
    """Return the table of several runs side by side."""
    metrics = list(dict.fromkeys(name for run in runs for name in run.judged()))[:6]
    rows = []
    for number, run in enumerate(runs):
        best = [shown(run.best[name].value) if name in run.best else '' for name in metrics]
        loss = shown(run.train['loss'].last) if 'loss' in run.train else ''
        serious = sum(finding.severity != 'info' for finding in run.findings)
        rows.append([f'{key_of(number)}{escape(run.name)}', *map(escape, (
            run.status, progress_of(run), loss, *best, str(len(run.attempts)), str(serious)))])
    return table(['run', 'status', 'progress', 'last loss', *(f'best {name}' for name in metrics), 'attempts',
                  'findings'], rows)


def key_of(colour: int) -> str:
    """Return the sample of a line for a legend."""
    return (f'<svg class="key" viewBox="0 0 22 8" aria-hidden="true"><path class="line {colour_of(colour)}" '
            'd="M0 4H22"/></svg>')


def findings(run: Run) -> str:
    """Return the findings with their advice, the newest first."""
    skipped = ''.join(f'<p>Updates that were not applied ({escape(cause)}): {count}.</p>'
                      for cause, count in run.skipped.items())
    if not run.findings:
        return skipped + ('<p class="none">The monitor found nothing to complain about.</p>' if run.statistics else
                          '<p class="none">Nobody looked: the run had no TrainingMonitorHook.</p>')
    listed = run.findings[-MOST_FINDINGS:][::-1]
    more = f'<p>The newest {len(listed)} of {len(run.findings)}.</p>' if len(listed) < len(run.findings) else ''
    return skipped + more + '<ul class="findings">' + ''.join(map(_finding, listed)) + '</ul>'


def _finding(finding: FindingNote) -> str:
    repeats = (f'<p>Seen {finding.count} times, last at iteration {finding.last_iter}.</p>'
               if finding.count > 1 else '')
    worst = f'<p>Worst: {escape(finding.worst)}</p>' if finding.worst else ''
    advice = ''.join(f'<li>{escape(line)}</li>' for line in finding.advice)
    look = f'<p>What to look at, most likely cause first:</p><ol>{advice}</ol>' if advice else ''
    return (f'<li class="{escape(finding.severity)}"><p><b>{SIGNS.get(finding.severity, "Note")}</b> '
            f'{escape(finding.message)}</p>{repeats}{worst}{look}</li>')


def checkpoints(run: Run) -> str:
    """Return the table of the files that were written, newest first; names of the same bytes share a row."""
    if not run.checkpoints:
        return '<p class="none">No checkpoint was written.</p>'
    groups: dict[tuple[int, int, int], list[Checkpoint]] = {}
    for checkpoint in reversed(run.checkpoints):
        groups.setdefault((checkpoint.epoch, checkpoint.iter, checkpoint.size), []).append(checkpoint)
    rows = [_checkpoint(names) for names in list(groups.values())[:MOST_ROWS]]
    more = f'<p>The newest {MOST_ROWS} of {len(groups)}.</p>' if len(groups) > MOST_ROWS else ''
    return more + table(['file', 'epoch', 'iteration', 'written', 'size', 'stood still', 'written as', ''], rows)


def _checkpoint(names: Sequence[Checkpoint]) -> list[str]:
    first = names[0]
    shown_names = '<br>'.join(escape(c.name) if c.kept else f'<s>{escape(c.name)}</s>' for c in names)
    roles = ', '.join(dict.fromkeys(role.replace('best:', 'best ', 1) for c in names for role in c.roles))
    blocked = [c.blocked for c in names if c.blocked is not None]
    return [shown_names, str(first.epoch), str(first.iter or ''), clock(first.time), size(first.size),
            f'{max(blocked):.3g} s' if blocked else '', escape(roles),
            'kept' if any(c.kept for c in names) else 'dropped since']


def attempts(run: Run) -> str:
    """Return the table of the attempts, newest first."""
    rows = [[str(a.number), clock(a.start), '' if a.stop is None else duration(a.stop - a.start),
             '' if a.first_iter is None else str(a.first_iter), escape(a.process), escape(a.how)]
            for a in run.attempts[::-1][:MOST_ROWS]]
    return table(['no', 'began', 'lasted', 'first logged iteration', 'process', 'ended'], rows) if rows else ''


def statistics(run: Run) -> str:
    """Return the table of ``training_stats.json``."""
    known = {column for values in run.statistics.values() for column in values}
    columns = [column for column in STATISTICS if column in known]
    rows = [[escape(name), *(escape(_number(values.get(column))) for column in columns)]
            for name, values in run.statistics.items()]
    return table(['term', *map(STATISTICS.__getitem__, columns)], rows) if rows else ''


def config(runs: Sequence[Run]) -> str:
    """Return the config of one run, or the differences of several from the first."""
    if len(runs) == 1:
        return _pre('Config', runs[0].config) if runs[0].config else ''
    parts = [_pre(f'Config of {runs[0].name}', runs[0].config)] if runs[0].config else []
    for run in runs[1:]:
        lines = difflib.unified_diff(runs[0].config.splitlines(), run.config.splitlines(), runs[0].name, run.name,
                                     n=1, lineterm='')
        parts.append(_pre(f'What differs in the config of {run.name}', '\n'.join(lines) or 'nothing'))
    return ''.join(parts)


def _pre(title: str, text: str) -> str:
    return f'<details><summary>{escape(title)}</summary><pre tabindex="0">{escape(text)}</pre></details>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML already, headers are text."""
    head = ''.join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = ''.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows)
    return (f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            '</div>')


def _number(value: Any) -> str:
    return '' if value is None else shown(value) if isinstance(value, (int, float)) else str(value)
