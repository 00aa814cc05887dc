"""Puts together what the files in a work directory tell of its last run."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from mmckpt.monitor.journal import JOURNAL_NAME, read_journal
from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.history import attempts_of, checkpoints_of, measured, seconds_of
from mmckpt.monitor.run_report.noticed import findings_of, marks_of
from mmckpt.monitor.run_report.run import AttemptSpan, Best, Run
from mmckpt.monitor.run_report.scalars import ScalarLog, join

TIMESTAMP = re.compile(r'\d{8}_\d{6}$')
MOST_CONFIG = 200_000
Facts = Mapping[str, Any]
Events = Sequence[Mapping[str, Any]]
RuleOf = Callable[[str], Optional[str]]


class RunReader:
    """Reads a work directory, and again at little cost while the training goes on.

    It takes MMEngine's own ``<timestamp>/vis_data/scalars.json`` of every
    attempt, which stock runs have too, and what there is of
    ``training_stats.json``, ``mmckpt_index.json``, the attempts' journals and
    the config. A fresh run in a used directory hides the runs before it.

    Args:
        work_dir (Path): The directory.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for the
            name of a metric, where no statistics tell its best.

    Example:
        >>> import tempfile
        >>> run = RunReader(Path(tempfile.mkdtemp())).read()
        >>> run.status, run.train
        ('unknown', {})
    """

    def __init__(self, work_dir: Path, rule_of: RuleOf = lambda name: None) -> None:
        self.work_dir = work_dir
        self._rule_of = rule_of
        self._logs: dict[str, ScalarLog] = {}

    def read(self) -> Run:
        """Return the run as its files tell it now; what makes no sense in them is named and left out."""
        notes: list[str] = []
        stamps = sorted(path.name for path in self.work_dir.glob('*_*') if _is_stamp(path.name))
        for stamp in stamps:
            log = self._logs.setdefault(stamp, ScalarLog(self.work_dir / stamp / 'vis_data' / 'scalars.json'))
            log.update()
        stats = _read_json(self.work_dir / 'training_stats.json', notes)
        index = _read_json(self.work_dir / 'mmckpt_index.json', notes)
        journals = {stamp: read_journal(self.work_dir / stamp / JOURNAL_NAME) for stamp in stamps}
        try:
            return self._of_last_run(stamps, journals, stats, index, list(notes))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            notes.append('Index, statistics or journal hold something that is not understood; the curves are from '
                         f'MMEngine\'s own files alone ({type(error).__name__}: {error}).')
            return self._of_last_run(stamps, {stamp: [] for stamp in stamps}, {}, {}, notes)

    def _of_last_run(self, stamps: list[str], journals: Mapping[str, list[Any]], stats: Facts, index: Facts,
                     notes: list[str]) -> Run:
        stamps = _of_last_run(stamps, self._logs, journals, index)
        events = [event for stamp in stamps for event in journals[stamp]]
        attempts = attempts_of(stamps, self._logs, index)
        if attempts and _written(stats) < attempts[0].start - 1:
            # They are those of the run before; this one has not written any yet.
            stats = {}
        return self._assemble(stamps, events, attempts, stats, index, notes)

    def _assemble(self, stamps: list[str], events: Events, attempts: list[AttemptSpan], stats: Facts,
                  index: Facts, notes: list[str]) -> Run:
        run = Run(self.work_dir.resolve().name, str(self.work_dir), attempts=attempts, notes=notes)
        logs = [self._logs[stamp] for stamp in stamps]
        _fill_head(run, stats, index, events, logs)
        run.iters_per_epoch = _iters_per_epoch(stats, index, events, logs)
        run.train, run.val = join(logs, run.iters_per_epoch)
        run.iter = max([run.iter, *(int(curve.steps[-1]) for curve in run.val.values())])
        run.train.update(measured(events))
        run.checkpoints = checkpoints_of(index, events, self.work_dir)
        run.best = self._best(stats, run.val)
        run.findings = findings_of(stats, events)
        run.marks = marks_of(run, stats, logs, events)
        run.skipped = {str(cause): int(count) for cause, count in (stats.get('skipped_by_cause') or {}).items()}
        run.statistics = dict(stats.get('terms') or {})
        run.config = _config(self.work_dir, stamps)
        bad = sum(log.bad_lines for log in logs)
        if bad:
            notes.append(f'{bad} lines of scalars.json could not be read and are left out.')
        return run

    def _best(self, stats: Facts, val: Mapping[str, Curve]) -> dict[str, Best]:
        noted = stats.get('metrics') or {}
        found = {}
        for name, curve in val.items():
            values = noted.get(name) or {}
            if isinstance(values.get('best'), (int, float)):
                found[name] = Best(float(values['best']), int(values['best_iter']), str(values['rule']))
                continue
            rule, finite = self._rule_of(name), curve.finite()
            if rule is not None and finite:
                value = max(finite) if rule == 'greater' else min(finite)
                found[name] = Best(value, int(curve.steps[curve.values.index(value)]), rule)
        return found


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f'{path.name} cannot be read: {error}')
        return {}
    if not isinstance(content, dict):
        notes.append(f'{path.name} holds no JSON object.')
        return {}
    return content


def _is_stamp(name: str) -> bool:
    try:
        return bool(TIMESTAMP.match(name)) and seconds_of(name) > 0
    except (ValueError, OverflowError):
        return False


def _of_last_run(stamps: list[str], logs: Mapping[str, ScalarLog], journals: Mapping[str, list[Any]],
                 index: Facts) -> list[str]:
    """Keep the attempts from the last fresh start on."""
    runs = [(attempt['start'], attempt['run']) for attempt in index.get('attempts') or []]
    if runs:
        first = min(start for start, run in runs if run == runs[-1][1])
        before = max((start for start, run in runs if start < first), default=-math.inf)
        # The directory gets its name when the Runner is built, a moment before the attempt begins.
        return [stamp for stamp in stamps if seconds_of(stamp) > before + 1 or _begins_after(journals[stamp], first)]
    trained = [stamp for stamp in stamps if logs[stamp].first_iter is not None]
    begin = ''
    for stamp in trained:
        if logs[stamp].first_iter == logs[trained[0]].first_iter:
            begin = stamp
    return [stamp for stamp in stamps if stamp >= begin]


def _begins_after(journal: Sequence[Any], first: float) -> bool:
    return bool(journal) and float(journal[0]['time']) >= first


def _written(stats: Facts) -> float:
    """When statistics were written, in seconds since 1970; infinity where they do not say."""
    try:
        return time.mktime(time.strptime(stats['written_at'], '%Y-%m-%d %H:%M:%S'))
    except (KeyError, ValueError, TypeError):
        return math.inf


def _fill_head(run: Run, stats: Facts, index: Facts, events: Events, logs: list[ScalarLog]) -> None:
    run.status, run.reason = str(stats.get('status', 'unknown')), str(stats.get('reason', ''))
    if run.attempts:
        last = run.attempts[-1]
        # A process that was killed could not say so, nor one that has only just begun.
        if last.how == 'running' or run.reason in ('', 'running') or _written(stats) < last.start - 1:
            run.status = run.reason = last.how
    records = index.get('records') or []
    run.iter = max([int(stats.get('iter', 0)), *(log.last_iter for log in logs[-1:]),
                    *(int(event.get('iter', 0)) for event in events[-1:])])
    run.epoch = max([int(stats.get('epoch', 0)), *(r['epoch'] for r in records if r['iter'] <= run.iter)])
    begin = next((event for event in reversed(events) if event['event'] == 'begin'), {})
    run.max_iters = begin.get('max_iters')


def _iters_per_epoch(stats: Facts, index: Facts, events: Events, logs: list[ScalarLog]) -> int | None:
    """Find the length of an epoch; logged lines bound it, and tell it after some epochs."""
    for event in events:
        if event.get('iters_per_epoch'):
            return int(event['iters_per_epoch'])
    shortest = max((log.shortest_epoch for log in logs), default=0.0)
    longest = min((log.longest_epoch for log in logs), default=math.inf)
    pairs = [(r['iter'], r['epoch']) for r in index.get('records') or []]
    pairs += [(m['best_iter'], m['best_epoch']) for m in (stats.get('metrics') or {}).values()
              if m.get('best_epoch')]
    for done, epoch in pairs:
        # Iteration-based runs have no completed epochs; a file made inside an epoch does not divide.
        if epoch and done % epoch == 0 and shortest <= done // epoch <= longest:
            return int(done // epoch)
    return math.ceil(shortest) if shortest else None


def _config(work_dir: Path, stamps: list[str]) -> str:
    places = [*(work_dir / stamp / 'vis_data' / 'config.py' for stamp in reversed(stamps)),
              *sorted(work_dir.glob('*.py'))]
    for path in places:
        try:
            text = path.read_text(encoding='utf-8', errors='replace')
        except OSError:
            continue
        return text if len(text) <= MOST_CONFIG else text[:MOST_CONFIG] + '\n# ... cut here'
    return ''
