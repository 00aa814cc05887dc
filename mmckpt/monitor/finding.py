"""What a detector says, and what a detector is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mmckpt.progress import Progress

Severity = Literal['info', 'warning', 'error']


@dataclass(frozen=True)
class Finding:
    """One thing that a detector noticed, with the numbers that show it.

    Args:
        kind (str): What it is, such as ``'loss_spike'``; a key of
            ``mmckpt.monitor.events.TITLES``.
        severity (str): ``'info'`` (also in healthy runs), ``'warning'`` or
            ``'error'``.
        subject (str): The loss term or metric that it is about.
        message (str): One sentence with the numbers in it.
        progress (Progress): Completed epochs and iterations at that moment.
        magnitude (float): How bad it is; compared within one kind only.
            Defaults to 0.0.
        numbers (dict[str, float]): The numbers of the message by name.
        advice (list[str]): What to look at, most likely cause first.

    Example:
        >>> Finding('loss_spike', 'warning', 'loss', 'loss is 9', Progress(0, 7), 4.5).subject
        'loss'
    """

    kind: str
    severity: Severity
    subject: str
    message: str
    progress: Progress
    magnitude: float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)


class Detector(Protocol):
    """Looks at named values, step by step, and says what is wrong with them.

    One that outlives the process also has ``state_dict()``, which returns the
    state in plain types under a version, and ``load_state_dict(state)``. One
    that would take what follows a planned rise of the learning rate for a
    fault has ``expect_rise(progress)``, which is called right after the rise.
    """

    def update(self, values: Mapping[str, Any], progress: Progress) -> list[Finding]:
        """Take the values of one step and return what was found in them."""
        ...


def where(progress: Progress) -> str:
    """Name a moment of training for a message.

    Example:
        >>> where(Progress(epoch=3, iter=120)), where(Progress(epoch=0, iter=7))
        ('epoch 3, iter 120', 'iter 7')
    """
    return f'epoch {progress.epoch}, iter {progress.iter}' if progress.epoch else f'iter {progress.iter}'
