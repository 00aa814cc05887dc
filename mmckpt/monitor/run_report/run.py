"""What is known of one training run, in plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmckpt.monitor.run_report.curve import Curve


@dataclass(frozen=True)
class Mark:
    """Something that happened at an iteration, to be marked in the curves.

    Args:
        kind (str): ``'spike'``, ``'nan'``, ``'rollback'``, ``'resume'`` or ``'finding'``.
        iter (int): Completed iterations.
        text (str): What happened.
        about (tuple[str, ...]): The terms or metrics that it is about. Defaults to ().
        part (str): ``'train'``, ``'val'`` or ``'all'``, the charts that it belongs to. Defaults to ``'all'``.
    """

    kind: str
    iter: int
    text: str
    about: tuple[str, ...] = ()
    part: str = 'all'


@dataclass(frozen=True)
class AttemptSpan:
    """One process that trained.

    Args:
        number (int): From 1.
        start (float): Seconds since 1970.
        stop (float, optional): None if nobody knows.
        how (str): How it ended, or ``'running'``.
        process (str): Host and process id, or ``''``.
        first_iter (int, optional): The first iteration that it logged.
    """

    number: int
    start: float
    stop: float | None
    how: str
    process: str = ''
    first_iter: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One file that was written.

    Args:
        name (str): Its name.
        epoch (int): Completed epochs.
        iter (int): Completed iterations.
        time (float): When it was committed, seconds since 1970.
        size (int): Bytes.
        roles (tuple[str, ...]): What it was written for.
        kept (bool): Whether it is still there.
        blocked (float, optional): Seconds for which training stood still; None if that was not noted.
    """

    name: str
    epoch: int
    iter: int
    time: float
    size: int
    roles: tuple[str, ...]
    kept: bool
    blocked: float | None = None


@dataclass(frozen=True)
class Best:
    """The best value of a metric and the iteration at which it was reached."""

    value: float
    iter: int
    rule: str


@dataclass(frozen=True)
class FindingNote:
    """A finding of the monitor, as it is shown.

    Args:
        kind (str): Its kind.
        severity (str): ``'info'``, ``'warning'`` or ``'error'``.
        first_iter (int): Where it began.
        last_iter (int): Where it was seen last.
        count (int): How often.
        message (str): One sentence.
        worst (str): The worst of it, or ``''``.
        advice (tuple[str, ...]): What to look at.
        about (tuple[str, ...]): The terms or metrics that it is about.
    """

    kind: str
    severity: str
    first_iter: int
    last_iter: int
    count: int
    message: str
    worst: str = ''
    advice: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


@dataclass
class Run:
    """Everything that a report shows of one run; what is not known is empty."""

    name: str
    work_dir: str
    status: str = 'unknown'
    reason: str = ''
    epoch: int = 0
    iter: int = 0
    max_iters: int | None = None
    iters_per_epoch: int | None = None
    train: dict[str, Curve] = field(default_factory=dict)
    val: dict[str, Curve] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    attempts: list[AttemptSpan] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    findings: list[FindingNote] = field(default_factory=list)
    # Updates that were not applied, by cause.
    skipped: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    config: str = ''
    # What could not be read, for the reader of the report.
    notes: list[str] = field(default_factory=list)

    def judged(self) -> list[str]:
        """Return the metrics that have a best, those first by which checkpoints were chosen."""
        chosen = [role[5:] for c in self.checkpoints for role in c.roles if role.startswith('best:')]
        return [name for name in dict.fromkeys([*sorted(chosen), *self.best]) if name in self.best]
