"""The findings of a run and the marks in its curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.run import FindingNote, Mark, Run
from mmckpt.monitor.run_report.scalars import ScalarLog

MOST_MARKS = 200
MARK_OF = {'loss_spike': 'spike', 'loss_level': 'spike', 'non_finite': 'nan'}


def findings_of(stats: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[FindingNote]:
    """Return the findings, oldest first, from the statistics or, where they are lost, from the journal.

    Args:
        stats (Mapping): Content of ``training_stats.json``.
        events (Sequence): The journal, which holds the advice.
    """
    said = [event for event in events if event['event'] == 'finding']
    noted = stats.get('events') or []
    if noted:
        return [_note(event, said) for event in noted]
    return [FindingNote(e.get('kind', ''), e['severity'], e['iter'], e['iter'], 1, e['text'], '', tuple(e['advice']))
            for e in said if e['severity'] != 'info']


def _note(event: Mapping[str, Any], said: Sequence[Mapping[str, Any]]) -> FindingNote:
    advice = event.get('advice') or next(
        (e['advice'] for e in said if e['text'].startswith(event['message']) and e['advice']), ())
    worst = event['worst'] if event['worst'] != event['message'] else ''
    return FindingNote(event['kind'], event['severity'], event['first_iter'], event['last_iter'], event['count'],
                       event['message'], worst, tuple(advice))


def marks_of(run: Run, logs: Sequence[ScalarLog], events: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Return what to mark in the curves of a run, by iteration; of each kind the newest 200."""
    marks = [Mark(MARK_OF.get(f.kind, 'finding'), f.first_iter, f.message) for f in run.findings]
    if not any(mark.kind == 'nan' for mark in marks):
        marks += _gaps(run.train)
    marks += _resumes(run, logs, events)
    rolled = [Mark('rollback', int(e['to_iter']), str(e.get('text', 'rolled back'))) for e in events
              if e['event'] == 'rollback']
    if not rolled:
        rolled = [Mark('rollback', back, f'went back from iteration {at} to before {back}')
                  for log in logs for at, back in log.rewinds]
    kept: list[Mark] = []
    for kind in ('spike', 'nan', 'finding', 'resume', 'rollback'):
        kept += [mark for mark in [*marks, *rolled] if mark.kind == kind][-MOST_MARKS:]
    return sorted(kept, key=lambda mark: mark.iter)


def _gaps(train: Mapping[str, Curve]) -> Iterable[Mark]:
    for name, curve in train.items():
        for step, value in zip(curve.steps, curve.values):
            if not math.isfinite(value):
                yield Mark('nan', int(step), f'{name} is {value} (first logged at iteration {int(step)})')
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
