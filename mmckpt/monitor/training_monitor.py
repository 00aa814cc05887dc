"""Statistics, detectors and events of one training run, fed with floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, NamedTuple

from mmckpt.monitor.advice import TrainingContext, advise
from mmckpt.monitor.events import Announcement, EventLog
from mmckpt.monitor.finding import Detector, Finding
from mmckpt.monitor.performance_drop import PerformanceDropDetector, Rule, check_threshold
from mmckpt.monitor.statistics import MetricStatistics, RunningStatistics
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

Context = Callable[[], TrainingContext]
# Iterations without a finding after which an event of the training loss is over.
QUIET_ITERS = 50


class Noticed(NamedTuple):
    """What one step showed.

    Args:
        findings (list[Finding]): All that was found in this step, with advice;
            what acts on findings reads these.
        announcements (list[Announcement]): What of it is worth saying: the
            first of an event, and summaries of repeats.
    """

    findings: list[Finding]
    announcements: list[Announcement]


class TrainingMonitor:
    """Watches the losses of every iteration and the metrics of every validation.

    Args:
        detectors (dict[str, Detector]): Detectors over the values of each
            iteration, by a name that is stable over resumes.
        threshold (float, optional): Threshold of the performance drops.
            Defaults to None, see :class:`PerformanceDropDetector`.
        rule_of (callable): Returns ``'greater'``, ``'less'`` or None for the
            name of a metric.

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
                 rule_of: Callable[[str], str | None] = lambda name: None) -> None:
        check_threshold(threshold)
        self.detectors = dict(detectors)
        self.threshold = threshold
        self._rule_of = rule_of
        self._terms: dict[str, RunningStatistics] = {}
        self._metrics: dict[str, MetricStatistics] = {}
        self._drops: dict[str, PerformanceDropDetector] = {}
        # States of metrics that no validation has shown to be watched yet.
        self._saved_drops: dict[str, dict[str, Any]] = {}
        # Counted by what skips them.
        self.skipped_updates = 0
        self._iter_events = EventLog(quiet=QUIET_ITERS)
        self._val_events = EventLog(quiet=1)

    def after_iter(self, values: Mapping[str, float], progress: Progress,
                   context: Context = TrainingContext) -> Noticed:
        """Take the scalars of one iteration; return what they show.

        Args:
            values (dict[str, float]): Scalars by name, in the model's order.
            progress (Progress): Completed counts, this iteration included.
            context (callable): Returns the run's present settings; called
                only when something was found.

        Returns:
            Noticed: Mostly empty.
        """
        terms = self._terms
        for name, value in values.items():
            statistics = terms.get(name)
            if statistics is None:
                statistics = terms[name] = RunningStatistics()
            statistics.update(value)
        findings: list[Finding] = []
        for detector in self.detectors.values():
            findings += detector.update(values, progress)
        return _noticed(findings, context, self._iter_events)

    def watch(self, metric: str, rule: Rule) -> None:
        """Look for drops of a metric from now on; a second call for a metric does nothing."""
        if metric in self._drops:
            return
        self._drops[metric] = PerformanceDropDetector(metric, self.threshold, rule)
        if metric in self._saved_drops:
            self._drops[metric].load_state_dict(self._saved_drops.pop(metric))

    def after_val(self, metrics: Mapping[str, float], progress: Progress,
                  context: Context = TrainingContext) -> Noticed:
        """Take the metrics of one validation; arguments and result as of :meth:`after_iter`."""
        for name, value in metrics.items():
            self._metric(name).update(value, progress)
        findings: list[Finding] = []
        for detector in self._drops.values():
            findings += detector.update(metrics, progress)
        return _noticed(findings, context, self._val_events)

    def close(self) -> Noticed:
        """End the events that are still going on; return the summaries of their repeats."""
        return Noticed([], self._iter_events.close() + self._val_events.close())

    def summary(self) -> dict[str, Any]:
        """Return statistics of terms and metrics, and the events, in plain types."""
        logs = (self._iter_events, self._val_events)
        return {
            'terms': {name: statistics.summary() for name, statistics in self._terms.items()},
            'metrics': {name: statistics.summary() for name, statistics in self._metrics.items()},
            'skipped_updates': self.skipped_updates,
            'totals': {kind: n for log in logs for kind, n in log.totals.items()},
            'events': [event for log in logs for event in log.events()],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state in plain types; it does not grow with the run."""
        return {
            'version': VERSION, 'skipped_updates': self.skipped_updates,
            **{part: {name: owner.state_dict() for name, owner in owners.items()}
               for part, owners in self._parts().items()},
            'drops': {**self._saved_drops, **{name: d.state_dict() for name, d in self._drops.items()}},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; detectors that it lacks start anew."""
        check_version(state, type(self).__name__)
        self.skipped_updates = state.get('skipped_updates', 0)
        self._terms = {name: RunningStatistics() for name in state['terms']}
        self._metrics = {name: MetricStatistics(self._rule_of(name)) for name in state['metrics']}
        for part, owners in self._parts().items():
            for name, owner in owners.items():
                if name in state[part]:
                    owner.load_state_dict(state[part][name])
        self._saved_drops = dict(state['drops'])
        for metric, detector in self._drops.items():
            if metric in self._saved_drops:
                detector.load_state_dict(self._saved_drops.pop(metric))

    def _parts(self) -> dict[str, Mapping[str, Any]]:
        return {'terms': self._terms, 'metrics': self._metrics, 'detectors': self.detectors,
                'events': {'iter': self._iter_events, 'val': self._val_events}}

    def _metric(self, name: str) -> MetricStatistics:
        if name not in self._metrics:
            self._metrics[name] = MetricStatistics(self._rule_of(name))
        return self._metrics[name]


def _noticed(findings: list[Finding], context: Context, events: EventLog) -> Noticed:
    if findings:
        settings = context()
        findings = [replace(finding, advice=advise(finding.kind, settings)) for finding in findings]
    return Noticed(findings, events.update(findings))
