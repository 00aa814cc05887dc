"""Exceptions of mmckpt; each message says what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMCkptError(Exception):
    """Base of every error that mmckpt raises on purpose."""


class UsageError(MMCkptError):
    """A command was given arguments or a config that it cannot work with."""


class CheckpointNotFoundError(MMCkptError, FileNotFoundError):
    """No checkpoint lies where one was asked for."""


class CorruptCheckpointError(MMCkptError):
    """A file is there, but it is truncated, altered or not a checkpoint."""


class IncompatibleCheckpointError(MMCkptError):
    """A checkpoint is sound but belongs to another model or format."""


class SaveError(MMCkptError):
    """Checkpoints could not be written several times in a row."""


class RemoteError(MMCkptError):
    """A remote storage does not answer, or holds what cannot be trusted."""


class LockedError(MMCkptError):
    """Another training process is writing into the same directory."""


class MetricNotFoundError(MMCkptError, KeyError):
    """A monitored metric is not among those that the validation produced."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which hides line breaks.
        return str(self.args[0]) if self.args else ''


class StoppedByMonitor(SystemExit):
    """The monitor has ended the training, as its config asks for; the exit status is 76.

    Args:
        reason (str): What happened, for a person.

    Example:
        >>> stop = StoppedByMonitor('the loss is nan')
        >>> stop.code, str(stop)
        (76, 'the loss is nan')
    """

    def __init__(self, reason: str) -> None:
        super().__init__(76)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return a phrase that lists the names closest to ``name``, then all known ones.

    Args:
        name (str): What was asked for.
        known (Iterable[str]): What there is.

    Returns:
        str: A phrase to append to an error message.

    Example:
        >>> near_matches('coco/Ap', ['coco/AP', 'coco/AR', 'PCK'])
        "Did you mean 'coco/AP', 'coco/AR'? Available: 'PCK', 'coco/AP', 'coco/AR'."
    """
    names = sorted(known)
    folded = {n.lower(): n for n in reversed(names)}
    wanted = name.lower()
    # 'AP' means 'coco/AP', which is too much longer for a likeness of letters.
    close = [full for low, full in folded.items() if wanted and wanted in low.split('/')]
    close += [folded[m] for m in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.5)]
    close = list(dict.fromkeys(close))[:3]
    available = ', '.join(repr(n) for n in names) or 'none'
    hint = f"Did you mean {', '.join(repr(n) for n in close)}? " if close else ''
    return f'{hint}Available: {available}.'
