"""The findings of a run and the marks in its curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.run import FindingNote, Mark, Run
from mmckpt.monitor.run_report.scalars import ScalarLog

MOST_MARKS = 200
MARK_OF = {'loss_spike': 'spike', 'loss_level': 'spike', 'divergence': 'spike', 'non_finite': 'nan'}
OF_VALIDATION = ('performance_drop', 'metric_zero', 'plateau', 'overfitting')


def findings_of(stats: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[FindingNote]:
    """Return the findings in the order of their iterations.

    Args:
        stats (Mapping): Content of ``training_stats.json``.
        events (Sequence): The journal, which holds the advice, and what the
            statistics have forgotten in a rollback or a kill.

    Returns:
        list[FindingNote]: Each event once.
    """
    said = [event for event in events if event['event'] == 'finding']
    noted = stats.get('events') or []
    lost = {e['text']: e for e in said if e['advice'] and not any(e['text'].startswith(n['message']) for n in noted)}
    found = [_note(event, said) for event in noted]
    found += [FindingNote(e['kind'], e['severity'], e['iter'], e['iter'], 1, e['text'], '', tuple(e['advice']),
                          tuple(e.get('about', ()))) for e in lost.values()]
    return sorted(found, key=lambda finding: finding.first_iter)


def _note(event: Mapping[str, Any], said: Sequence[Mapping[str, Any]]) -> FindingNote:
    advice = event.get('advice') or next(
        (e['advice'] for e in said if e['text'].startswith(event['message']) and e['advice']), ())
    worst = event['worst'] if event['worst'] != event['message'] else ''
    return FindingNote(event['kind'], event['severity'], event['first_iter'], event['last_iter'], event['count'],
                       event['message'], worst, tuple(advice), tuple(event['subjects']))


def marks_of(run: Run, stats: Mapping[str, Any], logs: Sequence[ScalarLog],
             events: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Return what to mark in the curves of a run, by iteration; of each kind the newest 200."""
    marks = [_mark(finding) for finding in run.findings if finding.severity != 'info' or finding.kind in MARK_OF]
    if not any(mark.kind == 'nan' for mark in marks):
        marks += _gaps(run.train)
    marks += _resumes(run, logs, events)
    marks += _rollbacks(stats, logs, events)
    kept: list[Mark] = []
    for kind in ('spike', 'nan', 'finding', 'resume', 'rollback'):
        kept += [mark for mark in marks if mark.kind == kind][-MOST_MARKS:]
    return sorted(kept, key=lambda mark: mark.iter)


def _mark(finding: FindingNote) -> Mark:
    return Mark(MARK_OF.get(finding.kind, 'finding'), finding.first_iter, finding.message, finding.about,
                'val' if finding.kind in OF_VALIDATION else 'train')


def _rollbacks(stats: Mapping[str, Any], logs: Sequence[ScalarLog],
               events: Sequence[Mapping[str, Any]]) -> Sequence[Mark]:
    """From whoever noted them: the statistics know why, the journal when, the logged lines that."""
    noted = stats.get('rollbacks') or []
    if noted:
        return [Mark('rollback', int(r['to_iter']), f"went back from iteration {r['from_iter']} to {r['to_iter']}: "
                                                    f"{r['text']}") for r in noted]
    if events:
        # Two attempts that began in the same second share a log, which then steps back without a rollback.
        return [Mark('rollback', int(e['to_iter']), str(e['text'])) for e in events if e['event'] == 'rollback']
    return [Mark('rollback', back, f'went back from iteration {at} to before {back}')
            for log in logs for at, back in log.rewinds]


def _gaps(train: Mapping[str, Curve]) -> Iterable[Mark]:
    for name, curve in train.items():
        for step, value in zip(curve.steps, curve.values):
            if not math.isfinite(value):
                yield Mark('nan', int(step), f'{name} is {value} (first logged at iteration {int(step)})', (name,),
                           'train')
                break


def _resumes(run: Run, logs: Sequence[ScalarLog], events: Sequence[Mapping[str, Any]]) -> Iterable[Mark]:
    begins = [event for event in events if event['event'] == 'begin']
    if begins:
        for begin in begins:
            if begin['iter'] > 0:
                source = f" from {begin['resumed_from']}" if begin.get('resumed_from') else ''
                yield Mark('resume', int(begin['iter']), f"resumed{source} at iteration {begin['iter']}")
        return
    for log in [log for log in logs if log.first_iter is not None][1:]:
        yield Mark('resume', int(log.first_iter or 0), f'resumed; iteration {log.first_iter} is the first one logged')
