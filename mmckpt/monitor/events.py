"""Turns a stream of findings into few messages, and keeps what happened for the report."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmckpt.monitor.finding import Finding, Severity
from mmckpt.monitor.versioned import VERSION, check_version

TITLES = {
    'loss_spike': 'Loss spikes',
    'loss_level': 'Loss stayed high',
    'non_finite': 'NaN or infinity',
    'divergence': 'Divergence',
    'performance_drop': 'Performance drops',
    'no_progress': 'No progress',
    'plateau': 'Plateaus',
    'metric_zero': 'Metrics at zero',
    'overfitting': 'Overfitting',
    'loss_term_dead': 'Dead loss terms',
    'loss_term_missing': 'Missing loss terms',
    'loss_scale': 'Loss terms out of scale',
    'gradient_explosion': 'Exploding gradients',
    'gradient_vanishing': 'Vanishing gradients',
    'idle_parameters': 'Parameters without gradient',
    'lr_zero': 'Learning rate 0',
    'slow_data': 'Slow data loader',
    'slowing': 'Slower iterations',
    'memory_growth': 'Growing memory',
    'gpu_idle': 'Idle GPU',
}
SEVERITIES: tuple[Severity, ...] = ('info', 'warning', 'error')


@dataclass
class Event:
    """Findings of one kind that followed each other closely."""

    kind: str
    severity: Severity
    subjects: list[str]
    first_epoch: int
    first_iter: int
    last_epoch: int
    last_iter: int
    count: int
    message: str
    worst: str
    magnitude: float
    said: float
    idle: int = 0


@dataclass(frozen=True)
class Announcement:
    """One message worth a person's attention.

    Args:
        severity (str): ``'info'``, ``'warning'`` or ``'error'``.
        text (str): The message.
        advice (list[str]): What to look at; empty for a repeat.
    """

    severity: Severity
    text: str
    advice: list[str]


class EventLog:
    """Groups findings into events and says each event once.

    An event begins with a finding of a kind and is over when ``quiet``
    updates have passed without another. It is announced when it begins, when
    it becomes more severe, when it reaches a term or metric it had not reached
    yet, when it is twice as bad as what was said last, and after 10, 100,
    1000, ... repeats. When it is
    over, the repeats are summed up. Memory is bounded: the newest ``keep``
    events are kept, all are counted.

    Args:
        quiet (int): Updates without a finding that end an event.
        keep (int): Finished events to keep. Defaults to 100.

    Example:
        >>> from mmckpt.progress import Progress
        >>> log = EventLog(quiet=50)
        >>> finding = Finding('loss_spike', 'warning', 'loss', 'loss is 9', Progress(0, 7), 4.5)
        >>> [len(log.update([finding])) for _ in range(4)]
        [1, 0, 0, 0]
    """

    def __init__(self, quiet: int, keep: int = 100) -> None:
        self.quiet = quiet
        self.totals: dict[str, int] = {}
        self._open: dict[str, Event] = {}
        self._closed: deque[Event] = deque(maxlen=keep)

    @property
    def is_open(self) -> bool:
        """Whether an event is going on."""
        return bool(self._open)

    def update(self, findings: Sequence[Finding]) -> list[Announcement]:
        """Take the findings of one step, most telling first; return what is worth saying."""
        if not findings and not self._open:
            return []
        kinds: dict[str, list[Finding]] = {}
        for finding in findings:
            kinds.setdefault(finding.kind, []).append(finding)
        said = [announcement for group in kinds.values() for announcement in self._note(group)]
        for kind in [k for k in self._open if k not in kinds]:
            self._open[kind].idle += 1
            if self._open[kind].idle >= self.quiet:
                said += self._end(kind)
        return said

    def close(self) -> list[Announcement]:
        """End every open event; return the summaries of their repeats."""
        return [announcement for kind in list(self._open) for announcement in self._end(kind)]

    def events(self) -> list[dict[str, Any]]:
        """Return the kept events, oldest first, in plain types."""
        ordered = sorted([*self._closed, *self._open.values()], key=lambda e: (e.first_epoch, e.first_iter))
        hidden = ('said', 'idle', 'magnitude')
        return [{k: v for k, v in asdict(event).items() if k not in hidden} for event in ordered]

    def state_dict(self) -> dict[str, Any]:
        """Return the events in plain types."""
        return {'version': VERSION, 'totals': dict(self.totals),
                'open': {kind: asdict(event) for kind, event in self._open.items()},
                'closed': [asdict(event) for event in self._closed]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self.totals = dict(state['totals'])
        self._open = {kind: _event(fields) for kind, fields in state['open'].items()}
        self._closed = deque(map(_event, state['closed']), maxlen=self._closed.maxlen)

    def _note(self, group: list[Finding]) -> list[Announcement]:
        worst = max(group, key=lambda finding: finding.magnitude)
        event = self._open.get(group[0].kind)
        if event is None:
            self._open[group[0].kind] = _begin(group, worst)
            self.totals[group[0].kind] = self.totals.get(group[0].kind, 0) + 1
            return [Announcement(_severest(group), _with_others(group), group[0].advice)]
        event.count, event.idle = event.count + 1, 0
        severity = _severest(group)
        graver = SEVERITIES.index(severity) > SEVERITIES.index(event.severity)
        if graver:
            event.severity = severity
        event.last_epoch, event.last_iter = worst.progress.epoch, worst.progress.iter
        if worst.magnitude > event.magnitude:
            event.magnitude, event.worst = worst.magnitude, worst.message
        new = [finding for finding in group if finding.subject not in event.subjects]
        event.subjects += [finding.subject for finding in new]
        if not graver and not new and worst.magnitude <= 2 * event.said and not _is_power_of_ten(event.count - 1):
            return []
        event.said = max(event.said, worst.magnitude)
        shown = [*new, *(f for f in group if f not in new)] if new else [worst]
        repeats = f' Seen {event.count} times since iter {event.first_iter}.'
        return [Announcement(severity, _with_others(shown) + repeats, group[0].advice if graver else [])]

    def _end(self, kind: str) -> list[Announcement]:
        event = self._open.pop(kind)
        self._closed.append(event)
        if event.count == 1:
            return []
        text = (f'{TITLES[kind]}: seen {event.count} times from iter {event.first_iter} to {event.last_iter} '
                f'in {", ".join(event.subjects)}.')
        if event.worst != event.message:
            text += f' Worst: {event.worst}'
        return [Announcement('info', text, [])]


def _begin(group: list[Finding], worst: Finding) -> Event:
    first = group[0]
    at = first.progress
    return Event(first.kind, _severest(group), [finding.subject for finding in group], at.epoch, at.iter,
                 at.epoch, at.iter, 1, first.message, worst.message, worst.magnitude, worst.magnitude)


def _severest(group: Sequence[Finding]) -> Severity:
    return max((finding.severity for finding in group), key=SEVERITIES.index)


def _event(fields: Mapping[str, Any]) -> Event:
    return Event(**{**fields, 'subjects': list(fields['subjects'])})


def _with_others(group: Sequence[Finding]) -> str:
    others = ', '.join(finding.subject for finding in group[1:])
    return f'{group[0].message} At the same time: {others}.' if others else group[0].message


def _is_power_of_ten(count: int) -> bool:
    return count >= 10 and str(count).strip('0') == '1'
