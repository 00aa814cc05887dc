"""What a remote directory lacks of the local one, and what it need not keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmckpt.policy.retention import Retention, to_drop
from mmckpt.store.index import Index, Leftover
from mmckpt.store.record import Record, newest_first


@dataclass(frozen=True)
class MirrorPlan:
    """The way from one state of a remote directory to the next.

    Args:
        index (Index): What the remote index says in the end.
        missing (tuple[Record, ...]): Local files that are not there, newest first.
        surplus (tuple[str, ...]): Remote names that are dropped at the end.
    """

    index: Index
    missing: tuple[Record, ...]
    surplus: tuple[str, ...]


def plan_mirror(local: Index, remote: Index, retention: Retention) -> MirrorPlan:
    """Compare two indices.

    A remote file that this machine never had (the run went on from a download)
    stays until the retention policy, which judges the files of both places,
    drops it. Earlier runs are not touched.

    Args:
        local (Index): What this machine has committed.
        remote (Index): What the remote directory holds.
        retention (Retention): The policy of the run.

    Returns:
        MirrorPlan: What is to be done.
    """
    union = {**remote.records, **local.records}
    dropped = {r.name for r in to_drop([r for r in union.values() if r.run == local.current_run], retention)}
    dropped |= {name for name, record in remote.records.items() if is_stand_in(name) and any(
        other.name != name and same_bytes(other, record) for other in union.values())}
    # What this machine keeps in spite of the policy (last_checkpoint names it) is kept there, too.
    surplus = dropped - set(local.records)
    kept = {name: record for name, record in union.items() if name not in surplus}
    # Those that could not be removed before are still on the list.
    leftovers = [item for item in remote.leftovers if item.name not in union]
    leftovers += [Leftover(name, remote.records[name].size, 0) for name in sorted(surplus)]
    missing = [r for r in local.records.values() if not same_bytes(remote.records.get(r.name), r)]
    return MirrorPlan(
        index=replace(local, records=kept, leftovers=tuple(leftovers), last_seq=max(local.last_seq, remote.last_seq)),
        missing=tuple(newest_first(missing)),
        surplus=tuple(item.name for item in leftovers))


def same_bytes(first: Record | None, second: Record | None) -> bool:
    """Whether two records speak of the same bytes.

    Example:
        >>> a = Record('epoch_1.pth', 1, 1, 1, 1, 9, 0.0, 5, 'xxh3-128:00', ())
        >>> same_bytes(a, replace(a, name='best_AP.pth', seq=7)), same_bytes(a, replace(a, digest='xxh3-128:01'))
        (True, False)
    """
    return (first is not None and second is not None
            and (first.size, first.digest) == (second.size, second.digest))


def twin_of(record: Record, there: Mapping[str, Record]) -> Record | None:
    """Return the record of a remote file with the bytes of a record, or None."""
    if not record.digest:
        return None
    return next((other for other in there.values() if same_bytes(other, record)), None)


def stand_in_name(record: Record) -> str:
    """Return the name under which the bytes of a file lie there until its own, which is in use, can have them.

    Example:
        >>> stand_in_name(Record('best_AP.pth', 7, 1, 1, 1, 9, 0.0, 5, 'xxh3-128:00', ()))
        'best_AP.new7.pth'
    """
    stem, dot, suffix = record.name.rpartition('.')
    return f'{stem}.new{record.seq}.{suffix}' if dot else f'{record.name}.new{record.seq}.pth'


def is_stand_in(name: str) -> bool:
    """Whether a name was made by :func:`stand_in_name`."""
    return re.search(r'\.new\d+\.[^.]+\Z', name) is not None
