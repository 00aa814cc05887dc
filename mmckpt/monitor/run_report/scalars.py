"""Reads the ``scalars.json`` that MMEngine's local visualizer backend writes, while it grows."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmckpt.monitor.run_report.curve import Curve

# Keys of a line that say where it belongs.
POSITION = ('iter', 'epoch', 'step')
# Scalars of our own in the same file.
OWN = 'mmckpt/'
MOST_NAMES = 200
MOST_VALIDATIONS = 10000


@dataclass(frozen=True)
class Validation:
    """One validation as it was logged.

    Args:
        after (int): Iterations that were logged before it; at least so many were completed.
        step (int): MMEngine's step of it: completed epochs or iterations.
        values (dict[str, float]): Its metrics.
    """

    after: int
    step: int
    values: dict[str, float]


class ScalarLog:
    """The scalars of one attempt; :meth:`update` reads what has been added since.

    A line with ``iter`` is one of the training, one without it a validation.
    A step back within the file is a rollback: what it repeats is overridden.

    Args:
        path (Path): The file; it need not exist yet.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), 'scalars.json')
        >>> _ = path.write_text('{"loss": 2.0, "iter": 10, "step": 10}\\n{"AP": 0.5, "step": 1}\\n')
        >>> log = ScalarLog(path)
        >>> log.update()
        >>> log.train['loss'].values, log.validations[0].values
        ([2.0], {'AP': 0.5})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.train: dict[str, Curve] = {}
        self.validations: list[Validation] = []
        # From which iteration back to which one.
        self.rewinds: list[tuple[int, int]] = []
        self.first_iter: int | None = None
        self.last_iter = 0
        self.last_epoch = 0
        # Bounds of the number of iterations of an epoch, by each line's iteration and epoch.
        self.shortest_epoch = 0.0
        self.longest_epoch = math.inf
        self.bad_lines = 0
        self._offset = 0

    def update(self) -> None:
        """Read the lines that are complete and new; lines that make no sense are counted and left out."""
        try:
            with open(self.path, 'rb') as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b'\n'):
                        break
                    self._offset += len(line)
                    self._take(line)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if 'iter' in entry:
                self._take_train(entry)
            else:
                self._take_validation(entry)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            self.bad_lines += 1

    def _take_train(self, entry: dict[str, Any]) -> None:
        done = int(entry['iter'])
        if self.first_iter is None:
            self.first_iter = done
        elif done <= self.last_iter:
            self.rewinds.append((self.last_iter, done))
            self.validations = [v for v in self.validations if v.after < done]
            for curve in self.train.values():
                curve.cut(done)
        self.last_iter = done
        epoch = entry.get('epoch')
        if isinstance(epoch, int) and epoch > 0:
            self.last_epoch = epoch
            self.shortest_epoch = max(self.shortest_epoch, done / epoch)
            if epoch > 1:
                self.longest_epoch = min(self.longest_epoch, (done - 1) / (epoch - 1))
        for name, value in _numbers(entry, 'train/'):
            if name not in self.train and len(self.train) >= MOST_NAMES:
                continue
            self.train.setdefault(name, Curve()).append(done, value)

    def _take_validation(self, entry: dict[str, Any]) -> None:
        values = dict(_numbers(entry, 'val/'))
        if not values:
            return
        self.validations.append(Validation(self.last_iter, int(entry.get('step', 0)), values))
        if len(self.validations) > MOST_VALIDATIONS:
            del self.validations[1:-1:2]


def _numbers(entry: dict[str, Any], prefix: str) -> list[tuple[str, float]]:
    return [(key[len(prefix):] if key.startswith(prefix) else key, float(value))
            for key, value in entry.items()
            if key not in POSITION and not key.startswith(OWN) and isinstance(value, (int, float))]


def join(logs: Sequence[ScalarLog], iters_per_epoch: int | None) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Put the attempts of one run together; a later one overrides the steps that it repeats.

    Args:
        logs (Sequence[ScalarLog]): The attempts, oldest first.
        iters_per_epoch (int, optional): Iterations of an epoch, where that is known.

    Returns:
        tuple: Curves of the training and of the validations, by name and over iterations.
    """
    train: dict[str, Curve] = {}
    val: dict[str, Curve] = {}
    for log in logs:
        if log.first_iter is not None:
            for curve in [*train.values(), *val.values()]:
                curve.cut(log.first_iter)
        for name, curve in log.train.items():
            train.setdefault(name, Curve()).extend(curve)
        starts = [*sorted({v.after for v in log.validations}), math.inf]
        for validation in log.validations:
            at = _iter_of(validation, iters_per_epoch, starts[bisect_right(starts, validation.after)])
            for name, value in validation.values.items():
                if name not in ('time', 'data_time') and (name in val or len(val) < MOST_NAMES):
                    val.setdefault(name, Curve()).append(at, value)
    return _filled(train), _filled(val)


def _filled(curves: dict[str, Curve]) -> dict[str, Curve]:
    return {name: curve for name, curve in curves.items() if curve.steps}


def _iter_of(validation: Validation, iters_per_epoch: int | None, before: float) -> int:
    """MMEngine logs a validation under its epoch or its iteration: take the one that fits its place."""
    candidates = [validation.step * iters_per_epoch] if iters_per_epoch else []
    for candidate in [*candidates, validation.step]:
        if validation.after <= candidate <= before:
            return candidate
    return validation.after
