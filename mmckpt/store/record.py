"""What is known of one checkpoint file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

FOREIGN = 'foreign'
PERIODIC = 'periodic'


@dataclass(frozen=True)
class Record:
    """One committed checkpoint file: where it came from, what it is for, how to verify it.

    Args:
        name (str): File name relative to the store's directory.
        seq (int): Order of the commits over all attempts; the highest is the
            newest, whatever the clock said.
        run (int): Number of the run. A fresh start in a used directory begins
            a new one, a resume goes on with the old one.
        attempt (int): Number of the process that wrote it, 0 if unknown.
        epoch (int): Completed epochs.
        iter (int): Completed iterations.
        time (float): Wall clock of the commit, in seconds since 1970; for people only.
        size (int): Bytes of the file, or of all files of a directory.
        digest (str): ``'xxh3-128:<hex>'`` of its bytes, ``'tree-xxh3-128:<hex>'`` of the manifest of a
            directory, or ``''`` where it was never computed.
        roles (tuple[str, ...]): What the file is kept for: ``'periodic'``, ``'best:AP'``, ``'foreign'``.
        scores (dict[str, float]): Score by which it was judged, by metric. Defaults to {}.
        metrics (dict[str, float]): Metrics of the validation at its step. Defaults to {}.
        rules (dict[str, str]): ``'greater'`` or ``'less'`` for each score. Defaults to {}, not known.
        val_pending (bool): Whether a validation was due at its step and is not done yet. Defaults to False.
        post_validation (dict, optional): What that validation changed after the
            file had been written, in plain JSON types. Defaults to None.

    Example:
        >>> record = Record('epoch_3.pth', 7, 1, 2, epoch=3, iter=120, time=0.0, size=10, digest='',
        ...                 roles=('periodic',), scores={'AP': float('nan')})
        >>> Record.from_json(record.to_json()).roles
        ('periodic',)
    """

    name: str
    seq: int
    run: int
    attempt: int
    epoch: int
    iter: int
    time: float
    size: int
    digest: str
    roles: tuple[str, ...]
    scores: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    val_pending: bool = False
    post_validation: dict[str, Any] | None = None
    rules: dict[str, str] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory of files, which count as one checkpoint."""
        return self.digest.startswith('tree-')

    def to_json(self) -> dict[str, Any]:
        """Return the record in types that every JSON reader takes (NaN and inf as strings)."""
        plain = asdict(self)
        plain['roles'] = list(self.roles)
        for key in ('scores', 'metrics'):
            plain[key] = {k: v if math.isfinite(v) else repr(v) for k, v in plain[key].items()}
        return plain

    def also_kept_as(self, other: Record) -> Record:
        """Return the record with what another name of the same bytes is kept for.

        Example:
            >>> file = Record('epoch_3.pth', 7, 1, 2, 3, 9, 0.0, 5, '', ('periodic',))
            >>> file.also_kept_as(replace(file, name='best.pth', roles=('best:AP',))).roles
            ('periodic', 'best:AP')
        """
        return replace(self, roles=tuple(dict.fromkeys([*self.roles, *other.roles])),
                       scores={**self.scores, **other.scores}, rules={**self.rules, **other.rules},
                       metrics={**self.metrics, **other.metrics})

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Record:
        """Read what :meth:`to_json` returned.

        Raises:
            ValueError: If the name leads out of the directory.
            KeyError, TypeError: If a field is missing or of another type.
        """
        values = dict(plain)
        check_name(values['name'])
        values['roles'] = tuple(values['roles'])
        for key in ('scores', 'metrics'):
            values[key] = {k: float(v) for k, v in values[key].items()}
        values['rules'] = dict(values.get('rules') or {})
        return cls(**values)


def check_name(name: str) -> None:
    """Refuse a file name that leads out of its directory, or that is hidden.

    Raises:
        ValueError: If ``name`` is not the plain name of a visible file.
    """
    if not name or name != os.path.basename(name) or name.startswith('.'):
        raise ValueError(
            f'A checkpoint needs a plain file name in its directory, such as epoch_3.pth, but got {name!r}.')


def newest_first(records: Iterable[Record]) -> list[Record]:
    """Sort by age, newest first; of several names of one file the periodic one comes first.

    Example:
        >>> file = Record('epoch_3.pth', 1, 1, 1, 3, 9, 0.0, 5, 'xxh3-128:00', ('periodic',))
        >>> link = Record('best_AP_epoch_3.pth', 2, 1, 1, 3, 9, 0.0, 5, 'xxh3-128:00', ('best:AP',))
        >>> [r.name for r in newest_first([link, file])]
        ['epoch_3.pth', 'best_AP_epoch_3.pth']
    """
    records = list(records)
    latest_of: dict[str, int] = {}
    for record in records:
        latest_of[record.digest] = max(record.seq, latest_of.get(record.digest, 0))

    def age(record: Record) -> tuple[int, bool, int]:
        same_bytes = latest_of[record.digest] if record.digest else record.seq
        return same_bytes, PERIODIC in record.roles, record.seq

    return sorted(records, key=age, reverse=True)
