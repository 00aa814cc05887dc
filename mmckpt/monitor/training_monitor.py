"""Statistics, detectors and events of one training run, fed with floats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Callable, NamedTuple

from mmckpt.monitor.advice import TrainingContext, advise
from mmckpt.monitor.blocks import BLOCK_ITERS, columns, summarise
from mmckpt.monitor.events import Announcement, EventLog
from mmckpt.monitor.finding import Detector, Finding
from mmckpt.monitor.learning import FIRST_ERROR, FIRST_LOSS, TRAIN_LOSS
from mmckpt.monitor.performance_drop import PerformanceDropDetector, Rule, check_threshold
from mmckpt.monitor.quantiles import QUANTILES, QuantileSketch
from mmckpt.monitor.statistics import MetricStatistics, RunningStatistics
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

Context = Callable[[], TrainingContext]
SLOW = ('block', 'round', 'probe')
# Events are kept apart by what brings them; each is over after so many updates without a finding.
QUIET = {'iter': 50, 'block': 3, 'epoch': 1, 'val': 1}
QUIET_PROBES = 3


class Noticed(NamedTuple):
    """What one step showed.

    Args:
        findings (list[Finding]): All that was found in this step, with advice;
            what acts on findings reads these. Those of severity ``'info'`` also
            come in healthy runs: they are for the record, not for action.
        announcements (list[Announcement]): What of it is worth saying: the
            first of an event, and summaries of repeats.
    """

    findings: list[Finding]
    announcements: list[Announcement]


NOTHING = Noticed([], [])


class TrainingMonitor:
    """Watches the losses of every iteration and the metrics of every validation.

    Args:
        detectors (dict[str, Detector]): Detectors over the values of each
            iteration, by a name that is stable over resumes.
        threshold (float, optional): Threshold of the performance drops.
            Defaults to None, see :class:`PerformanceDropDetector`.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for the
            name of a metric.
        slow (dict[str, dict[str, Detector]]): Detectors that need not look at
            each iteration, by what they look at: ``'block'`` (a :class:`Block` of each
            scalar every 50 iterations), ``'round'`` (metrics of a validation, and
            ``train_loss`` of an epoch) and ``'probe'`` (see :meth:`probe`).

    Raises:
        ValueError: If ``threshold`` is out of its range.

    Example:
        >>> from mmckpt.monitor.spike import SpikeDetector
        >>> monitor = TrainingMonitor({'spike': SpikeDetector(factor=2.0)})
        >>> said = [monitor.after_iter({'loss': 1.0}, Progress(0, step)) for step in range(1, 20)]
        >>> print(monitor.after_iter({'loss': 5.0}, Progress(0, 20)).announcements[0].text)
        Loss spike at iter 20: loss is 5.000000, its recent average 1.000000, ratio 5.00.
    """

    def __init__(self, detectors: Mapping[str, Detector], threshold: float | None = None,
                 rule_of: Callable[[str], str | None] = lambda name: None,
                 slow: Mapping[str, Mapping[str, Detector]] | None = None) -> None:
        check_threshold(threshold)
        self.detectors = dict(detectors)
        self.slow = {group: dict((slow or {}).get(group, {})) for group in SLOW}
        self.threshold = threshold
        self._rule_of = rule_of
        self._terms: dict[str, RunningStatistics] = {}
        self._sketches: dict[str, QuantileSketch] = {}
        self._metrics: dict[str, MetricStatistics] = {}
        self._drops: dict[str, PerformanceDropDetector] = {}
        # States of metrics that no validation has shown to be watched yet.
        self._saved_drops: dict[str, dict[str, Any]] = {}
        self._events = {group: EventLog(quiet=quiet) for group, quiet in QUIET.items()}
        self._iter_events = self._events['iter']
        self._events.update({name: EventLog(quiet=QUIET_PROBES) for name in self.slow['probe']})
        # The iterations of the block at hand, and the total loss since the last epoch or validation.
        self._steps: list[Mapping[str, float]] = []
        self._loss_sum = 0.0
        self._loss_count = 0
        # The level of the loss in the first iterations, and the error of that; empty where a resume did not bring it.
        self._first_loss: dict[str, float] | None = None

    def after_iter(self, values: Mapping[str, float], progress: Progress,
                   context: Context = TrainingContext) -> Noticed:
        """Take the scalars of one iteration; return what they show.

        Args:
            values (dict[str, float]): Scalars by name, in the model's order; kept, so the caller
                must not change it.
            progress (Progress): Completed counts, this iteration included.
            context (callable): Returns the run's present settings; called
                only when something was found.

        Returns:
            Noticed: Mostly empty.
        """
        self._loss_sum += values.get('loss', math.nan)
        self._loss_count += 1
        self._steps.append(values)
        findings: list[Finding] = []
        for detector in self.detectors.values():
            found = detector.update(values, progress)
            if found:
                findings += found
        noticed = self._notice('iter', findings, context) if findings or self._iter_events.is_open else NOTHING
        if len(self._steps) < BLOCK_ITERS:
            return noticed
        blocks = self._end_of_block()
        return _joined(noticed, self._look('block', 'block', blocks, progress, context))

    def after_epoch(self, progress: Progress, context: Context = TrainingContext,
                    facts: Mapping[str, float] | None = None) -> Noticed:
        """Take the end of an epoch of training, and what :mod:`mmckpt.monitor.learning` names; else as above."""
        return self._look('round', 'epoch', {**(facts or {}), **self._train_loss()}, progress, context)

    def watch(self, metric: str, rule: Rule) -> None:
        """Look for drops of a metric from now on; a second call for a metric does nothing."""
        if metric in self._drops:
            return
        self._drops[metric] = PerformanceDropDetector(metric, self.threshold, rule)
        if metric in self._saved_drops:
            self._drops[metric].load_state_dict(self._saved_drops.pop(metric))

    def after_val(self, metrics: Mapping[str, float], progress: Progress,
                  context: Context = TrainingContext, facts: Mapping[str, float] | None = None) -> Noticed:
        """Take the metrics of one validation; arguments and result as of :meth:`after_epoch`."""
        for name, value in metrics.items():
            self._metric(name).update(value, progress)
        drops = [finding for drop in self._drops.values() for finding in drop.update(metrics, progress)]
        values = {**metrics, **(facts or {}), **self._train_loss()}
        return self._look('round', 'val', values, progress, context, drops)

    def expect_rise(self, progress: Progress) -> None:
        """Take that a schedule has just raised the learning rate at one stroke: what gets worse now may be meant."""
        groups: list[Mapping[str, Any]] = [self.detectors, self._drops, *self.slow.values()]
        for detector in [detector for group in groups for detector in group.values()]:
            if hasattr(detector, 'expect_rise'):
                detector.expect_rise(progress)

    def probe(self, name: str, values: Mapping[str, float], progress: Progress,
              context: Context = TrainingContext) -> Noticed:
        """Show measurements to one of the ``'probe'`` detectors; arguments and result as of :meth:`after_iter`."""
        detector = self.slow['probe'].get(name)
        return NOTHING if detector is None else self._notice(name, detector.update(values, progress), context)

    def close(self) -> Noticed:
        """End the events that are still going on; return the summaries of their repeats."""
        return Noticed([], [said for log in self._events.values() for said in log.close()])

    def summary(self) -> dict[str, Any]:
        """Return statistics of terms and metrics, and the events, in plain types."""
        logs = self._events.values()
        terms = {name: copy(statistics) for name, statistics in self._terms.items()}
        pending = columns(self._steps)
        for name, column in pending.items():
            terms.setdefault(name, RunningStatistics()).extend(column)
        events = [event for log in logs for event in log.events()]
        return {
            'terms': {name: {**statistics.summary(), **self._quantiles(name, pending.get(name, []), statistics)}
                      for name, statistics in terms.items()},
            'metrics': {name: statistics.summary() for name, statistics in self._metrics.items()},
            'totals': {kind: n for log in logs for kind, n in log.totals.items()},
            'events': sorted(events, key=lambda event: (event['first_epoch'], event['first_iter'])),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state in plain types; it does not grow with the run."""
        return {
            'version': VERSION,
            'steps': columns(self._steps), 'loss_sum': self._loss_sum, 'loss_count': self._loss_count,
            'first_loss': self._first_loss,
            **{part: {name: owner.state_dict() for name, owner in owners.items()}
               for part, owners in self._parts().items()},
            'drops': {**self._saved_drops, **{name: d.state_dict() for name, d in self._drops.items()}},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; detectors that it lacks start anew."""
        check_version(state, type(self).__name__)
        self._loss_sum, self._loss_count = state.get('loss_sum', 0.0), state.get('loss_count', 0)
        self._steps, self._first_loss = _rows(state.get('steps', {})), state.get('first_loss', {})
        self._terms = {name: RunningStatistics() for name in state['terms']}
        self._sketches = {name: QuantileSketch() for name in state['terms']}
        self._metrics = {name: MetricStatistics(self._rule_of(name)) for name in state['metrics']}
        for part, owners in self._parts().items():
            for name, owner in owners.items():
                if name in state.get(part, {}):
                    owner.load_state_dict(state[part][name])
        self._saved_drops = dict(state['drops'])
        for metric, detector in self._drops.items():
            if metric in self._saved_drops:
                detector.load_state_dict(self._saved_drops.pop(metric))

    def _parts(self) -> dict[str, Mapping[str, Any]]:
        # What probes see ends with the process, except for those that say otherwise by having a state.
        slow = {name: detector for group in self.slow.values() for name, detector in group.items()
                if hasattr(detector, 'state_dict')}
        return {'terms': self._terms, 'sketches': self._sketches, 'metrics': self._metrics,
                'detectors': {**self.detectors, **slow}, 'events': self._events}

    def _look(self, group: str, events: str, values: Mapping[str, Any], progress: Progress, context: Context,
              findings: list[Finding] | None = None) -> Noticed:
        found = findings or []
        for detector in self.slow[group].values():
            found = found + detector.update(values, progress)
        return self._notice(events, found, context)

    def _notice(self, name: str, findings: list[Finding], context: Context) -> Noticed:
        events = self._events[name]
        if findings:
            settings = context()
            findings = [replace(finding, advice=advise(finding.kind, settings)) for finding in findings]
        elif not events.is_open:
            return NOTHING
        return Noticed(findings, events.update(findings))

    def _end_of_block(self) -> dict[str, Any]:
        values = columns(self._steps)
        self._note_first()
        self._steps = []
        for name, column in values.items():
            if name not in self._terms:
                self._terms[name], self._sketches[name] = RunningStatistics(), QuantileSketch()
            self._terms[name].extend(column)
            self._sketches[name].extend(column)
        return {name: summarise(column) for name, column in values.items()} if self.slow['block'] else {}

    def _train_loss(self) -> dict[str, float]:
        """Return the mean total loss since the last call; empty if there was no iteration, or none was finite."""
        mean = self._loss_sum / self._loss_count if self._loss_count else math.nan
        self._loss_sum, self._loss_count = 0.0, 0
        self._note_first()
        return {TRAIN_LOSS: mean, **(self._first_loss or {})} if math.isfinite(mean) else {}

    def _note_first(self) -> None:
        if self._first_loss is None:
            losses = RunningStatistics()
            losses.extend([step['loss'] for step in self._steps if 'loss' in step])
            self._first_loss = {FIRST_LOSS: losses.mean, FIRST_ERROR: losses.std / math.sqrt(losses.count)
                                } if losses.count else {}

    def _quantiles(self, name: str, pending: list[float], statistics: RunningStatistics) -> dict[str, float | None]:
        sketch = self._sketches[name].copy() if name in self._sketches else QuantileSketch()
        sketch.extend(pending)
        return {f'p{share * 100:g}': None if value is None else min(max(value, statistics.min), statistics.max)
                for share, value in zip(QUANTILES, sketch.quantiles(QUANTILES))}

    def _metric(self, name: str) -> MetricStatistics:
        if name not in self._metrics:
            self._metrics[name] = MetricStatistics(self._rule_of(name))
        return self._metrics[name]


def _joined(first: Noticed, second: Noticed) -> Noticed:
    return Noticed(first.findings + second.findings, first.announcements + second.announcements)


def _rows(steps: Mapping[str, list[float]]) -> list[Mapping[str, float]]:
    """Undo :func:`columns`; a term that was not in every iteration moves to the newest ones."""
    length = max(map(len, steps.values()), default=0)
    rows: list[dict[str, float]] = [{} for _ in range(length)]
    for name, column in steps.items():
        for row, value in zip(rows[length - len(column):], column):
            row[name] = value
    return list(rows)
