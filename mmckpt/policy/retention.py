"""Which checkpoints to keep: records in, names to keep out.

A policy is any callable that takes the records of the current run and
returns the names to keep. ``roles`` tells which roles it judges: a file that
has a role which no policy judges is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

Rule = Literal['greater', 'less']


class RecordLike(Protocol):
    """The part of a record that policies look at."""

    @property
    def name(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def iter(self) -> int: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def scores(self) -> Mapping[str, float]: ...


class Retention(Protocol):
    """Takes the records of the current run, returns the names to keep."""

    @property
    def roles(self) -> frozenset[str]: ...
    def __call__(self, records: Sequence[RecordLike]) -> set[str]: ...
    def most_files(self) -> int | None: ...


class KeepAll:
    """Keeps everything.

    Example:
        >>> KeepAll()([])
        set()
    """

    roles: frozenset[str] = frozenset()

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        return {record.name for record in records}

    def most_files(self) -> int | None:
        """Return None: there is no bound."""
        return None


class KeepLast:
    """Keeps the newest files that have a role.

    Args:
        n (int): How many, at least 1.
        role (str): The role. Defaults to 'periodic'.

    Raises:
        ValueError: If ``n`` is less than 1.
    """

    def __init__(self, n: int, role: str = 'periodic') -> None:
        _check_count('KeepLast', n)
        self.n = n
        self.role = role
        self.roles = frozenset({role})

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        ours = sorted(_with_role(records, self.role), key=lambda r: r.seq)
        return {record.name for record in ours[-self.n:]}

    def most_files(self) -> int | None:
        """Return the largest number of files that are kept."""
        return self.n


class KeepBest:
    """Keeps the files of the best steps by a score.

    All files of one step (epoch, iter) that have the role are kept or dropped
    together. Of equal scores the older step stays; NaN and a missing score
    come last.

    Args:
        role (str): ``'best:<metric>'``; the metric's entry in ``scores`` decides.
        n (int): How many steps; -1 keeps all.
        rule (str): ``'greater'`` or ``'less'``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, role: str, n: int, rule: Rule) -> None:
        if n != -1:
            _check_count('KeepBest', n, hint=' or -1 for all')
        if rule not in ('greater', 'less'):
            raise ValueError(f"KeepBest needs rule='greater' or 'less', but got {rule!r}.")
        self.role = role
        self.metric = role.split(':', 1)[-1]
        self.n = n
        self.rule = rule
        self.roles = frozenset({role})

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        steps: dict[tuple[int, int], list[RecordLike]] = {}
        for record in _with_role(records, self.role):
            steps.setdefault((record.epoch, record.iter), []).append(record)
        ranked = sorted(steps.values(), key=self.rank)
        kept = ranked if self.n == -1 else ranked[:self.n]
        return {record.name for group in kept for record in group}

    def most_files(self) -> int | None:
        """Return the largest number of steps that are kept, or None."""
        return None if self.n == -1 else self.n

    def rank(self, group: Sequence[RecordLike]) -> tuple[bool, float, int]:
        """Return a sort key of a step: the best one has the least."""
        scores = [r.scores[self.metric] for r in group if not math.isnan(r.scores.get(self.metric, math.nan))]
        age = min(record.seq for record in group)
        if not scores:
            return True, 0.0, age
        return (False, -max(scores), age) if self.rule == 'greater' else (False, min(scores), age)


class KeepEvery:
    """Keeps every Nth periodic file for ever.

    Args:
        n (int): Distance in epochs or iterations, at least 1.
        by_epoch (bool): Whether epochs are counted, else iterations.

    Raises:
        ValueError: If ``n`` is less than 1.
    """

    roles = frozenset({'periodic'})

    def __init__(self, n: int, by_epoch: bool) -> None:
        _check_count('KeepEvery', n)
        self.n = n
        self.by_epoch = by_epoch

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        return {record.name for record in _with_role(records, 'periodic')
                if (record.epoch if self.by_epoch else record.iter) % self.n == 0}

    def most_files(self) -> int | None:
        """Return None: the number grows with the run."""
        return None


class KeepRoles:
    """Keeps every file that has one of some roles.

    Args:
        *roles (str): The roles.
    """

    def __init__(self, *roles: str) -> None:
        self.roles = frozenset(roles)

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        return {record.name for record in records if self.roles & set(record.roles)}

    def most_files(self) -> int | None:
        """Return None: there is no bound."""
        return None


class AnyOf:
    """Keeps what any of several policies keeps.

    Args:
        *policies (Retention): The policies.

    Example:
        >>> AnyOf(KeepLast(3), KeepBest('best:AP', 2, 'greater')).most_files()
        5
    """

    def __init__(self, *policies: Retention) -> None:
        self.policies = policies
        self.roles: frozenset[str] = frozenset().union(*(policy.roles for policy in policies))

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        return set().union(*(policy(records) for policy in self.policies))

    def most_files(self) -> int | None:
        """Return the sum of the bounds, or None if one policy has none."""
        bounds = [policy.most_files() for policy in self.policies]
        return None if None in bounds else sum(bound for bound in bounds if bound is not None)


def to_drop(records: Sequence[Any], retention: Retention, protected: Iterable[str] = ()) -> list[Any]:
    """Return the records that may go, oldest first.

    A record stays if the policy keeps it, if it is protected, if it is the
    newest, or if it has a role that the policy does not judge.

    Args:
        records (Sequence[RecordLike]): Records of the current run.
        retention (Retention): The policy.
        protected (Iterable[str]): Names that stay in any case. Defaults to ().

    Returns:
        list: Records out of ``records``.
    """
    if not records:
        return []
    kept = retention(records) | set(protected) | {max(records, key=lambda r: r.seq).name}
    gone = [r for r in records if r.name not in kept and r.roles and set(r.roles) <= retention.roles]
    return sorted(gone, key=lambda r: r.seq)


def _with_role(records: Sequence[RecordLike], role: str) -> list[RecordLike]:
    return [record for record in records if role in record.roles]


def _check_count(policy: str, n: int, hint: str = '') -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f'{policy} needs a number of files of at least 1{hint}, but got {n!r}: '
                         'the newest checkpoint is always kept.')


class KeepNone:
    """Keeps no file of a role for its own sake: it goes once a newer file exists.

    The store always keeps the newest file, so a checkpoint of an interrupted
    run stays until the resumed run has written the next one.

    Args:
        role (str): The role.
    """

    def __init__(self, role: str) -> None:
        self.roles = frozenset({role})

    def __call__(self, records: Sequence[RecordLike]) -> set[str]:
        return set()

    def most_files(self) -> int | None:
        """Return 0: it stays only as the newest file, for which there must be room anyway."""
        return 0
