"""The statistics of a run as a text to read and as strict JSON, written atomically."""

from __future__ import annotations

import json
import math
import os
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmckpt.monitor.events import TITLES

WIDTH = 88
TERM_COLUMNS = ('mean', 'std', 'min', 'max', 'final')


def to_json(report: Mapping[str, Any]) -> str:
    """Return a report as JSON that every parser takes.

    JSON knows no NaN: non-finite numbers become the strings ``'NaN'``,
    ``'Infinity'`` and ``'-Infinity'``.

    Example:
        >>> print(to_json({'final': float('nan')}))
        {
          "final": "NaN"
        }
    """
    return json.dumps(_strict(report), indent=2, allow_nan=False, ensure_ascii=False)


def to_text(report: Mapping[str, Any]) -> str:
    """Return a report as the text of ``training_stats.txt``.

    Args:
        report (dict): What :meth:`TrainingMonitor.summary` returned, with
            ``work_dir``, ``status``, ``epoch``, ``iter``, ``written_at`` and
            ``monitor_failures``; and ``skipped_by_cause`` and ``rollbacks``,
            where the monitor acts.

    Returns:
        str: Lines of text, the last one ended. ``saves`` and ``attempts`` are
            shown where the report has them.
    """
    sections = [_head(report), _terms(report['terms']), _quantiles(report['terms']), _metrics(report['metrics']),
                _saves(report), *_events(report), *_actions(report)]
    return '\n\n'.join('\n'.join(lines) for lines in sections if lines) + '\n'


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a new text, so that a reader sees the old one or the new one."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _head(report: Mapping[str, Any]) -> list[str]:
    done = f"{report['epoch']} epochs, {report['iter']} iterations" if report['epoch'] else (
        f"{report['iter']} iterations")
    lines = ['Training statistics', '=' * WIDTH, f"work_dir   {report['work_dir']}",
             f"status     {report['status']}", f'done       {done}', f"written    {report['written_at']}"]
    if report['monitor_failures']:
        lines.append(f"monitor    failed {report['monitor_failures']} times, see the log: numbers miss")
    return lines


def _terms(terms: Mapping[str, Any]) -> list[str]:
    if not terms:
        return _title('Losses', ['none: no iteration was completed'])
    rows = [['term', *TERM_COLUMNS, 'NaN/Inf']]
    rows += [[name, *(_number(values[c]) for c in TERM_COLUMNS), str(values['non_finite'])]
             for name, values in terms.items()]
    counts = {values['count'] + values['non_finite'] for values in terms.values()}
    over = f'{max(counts)} iterations' if len(counts) == 1 else f'up to {max(counts)} iterations'
    return _title(f'Losses over {over}', _table(rows))


def _quantiles(terms: Mapping[str, Any]) -> list[str]:
    names = [key for key in next(iter(terms.values()), {}) if key[0] == 'p' and key[1:].replace('.', '').isdigit()]
    if not names:
        return []
    rows = [['term', *names], *([name, *(_number(values[q]) for q in names)] for name, values in terms.items())]
    return _title('Quantiles (within 2 %)', _table(rows))


def _saves(report: Mapping[str, Any]) -> list[str]:
    lines = []
    saves, attempts = report.get('saves'), report.get('attempts') or []
    if saves is not None:
        lines.append(f"saves      {saves['count']} files, {saves['bytes'] / 1e6:.1f} MB, training stood still for "
                     f"{saves['blocked_seconds']:.1f} s")
    for attempt in attempts:
        start = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(attempt['start']))
        lines.append(f"attempt {attempt['attempt']:<3}{start} on {attempt['host']}: {attempt['why'] or 'running'}")
    return _title('Saves and attempts', lines) if lines else []


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return _title('Best metrics', ['none: no validation was completed'])
    rows = [['metric', 'best', 'at', 'last', 'min', 'max']]
    for name, values in metrics.items():
        at = '-' if values['best'] is None else _at(values['best_epoch'], values['best_iter'])
        rows.append([name, _number(values['best']), at,
                     *(_number(values[column]) for column in ('final', 'min', 'max'))])
    lines = _table(rows)
    if any(values['rule'] is None for values in metrics.values()):
        lines.append("(no best where it is not known whether greater or less is better)")
    return _title('Best metrics', lines)


def _events(report: Mapping[str, Any]) -> list[list[str]]:
    sections: list[list[str]] = []
    unseen: list[str] = []
    for kind, title in TITLES.items():
        total = report['totals'].get(kind, 0)
        if not total:
            unseen.append(title)
            continue
        events = [event for event in report['events'] if event['kind'] == kind]
        lines = [line for event in events for line in _event(event)]
        if total > len(events):
            lines.insert(0, f'(the newest {len(events)} of {total})')
        sections.append(_title(f'{title}: {total}', lines))
    if unseen:
        sections.append(_title('Not seen', textwrap.wrap(', '.join(unseen), WIDTH)))
    return sections


def _event(event: Mapping[str, Any]) -> list[str]:
    lines = [f"- {event['message']}"]
    if len(event['subjects']) > 1:
        lines.append(f"  in: {', '.join(event['subjects'])}")
    if event['count'] > 1:
        lines.append(f"  seen {event['count']} times, last at {_at(event['last_epoch'], event['last_iter'])}")
    if event['worst'] != event['message']:
        lines.append(f"  worst: {event['worst']}")
    return lines


def _actions(report: Mapping[str, Any]) -> list[list[str]]:
    skipped, rollbacks = report.get('skipped_by_cause') or {}, report.get('rollbacks') or []
    lines = [f'- updates not applied: {n} ({"left out after a rollback" if cause == "rollback" else cause})'
             for cause, n in skipped.items()]
    lines += [f"- back from iter {r['from_iter']} to {r['to_iter']} ({r['checkpoint']}): {r['cause']}, {r['text']}"
              for r in rollbacks]
    lines += [f"- cause at iter {found['iter']}: {found['text']}" for found in report.get('located_nan') or []]
    return [_title('What the monitor did', lines)] if lines else []


def _title(title: str, lines: Sequence[str]) -> list[str]:
    return [title, '-' * WIDTH, *lines]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ['  '.join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))])
            for row in rows]


def _at(epoch: int, iteration: int) -> str:
    return f'epoch {epoch}, iter {iteration}' if epoch else f'iter {iteration}'


def _number(value: float | None) -> str:
    if value is None:
        return '-'
    return f'{value:.6f}' if 1e-4 <= abs(value) < 1e7 or value == 0 else f'{value:.4g}'


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return 'NaN' if math.isnan(value) else ('Infinity' if value > 0 else '-Infinity')
    return value
