"""The index of a directory: a file counts only when its record is in here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.store.record import Record

INDEX_NAME = 'mmckpt_index.json'
VERSION = 1


class BrokenIndexError(ValueError):
    """The index file cannot be trusted; it can be rebuilt from the checkpoints."""


@dataclass(frozen=True)
class Attempt:
    """One process that trained into the directory.

    Args:
        attempt (int): Its number, from 1.
        run (int): The run that it began or went on with.
        host (str): Its host.
        pid (int): Its process id.
        start (float): Wall clock, seconds since 1970.
        stop (float, optional): Wall clock, or None while it lives or if it was killed.
        why (str, optional): ``'finished'``, ``'exception'``, ``'signal'``, ``'killed'``, ``'rollback'`` if the
            process went back to a checkpoint and began the next attempt, ``'monitor'`` if the monitor stopped it;
            None while it lives.
        event (dict, optional): Where and why the process went back, if it began with a rollback.
    """

    attempt: int
    run: int
    host: str
    pid: int
    start: float
    stop: float | None = None
    why: str | None = None
    event: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, without an event that there is not: older versions know none."""
        return {key: value for key, value in asdict(self).items() if key != 'event' or value is not None}


@dataclass(frozen=True)
class Leftover:
    """A file that was dropped from the index but perhaps not from the disk yet."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Index:
    """An immutable state of the index; every change is a new one, so a failed commit changes nothing.

    Args:
        records (dict[str, Record]): Committed files by name.
        attempts (tuple[Attempt, ...]): History, oldest first.
        leftovers (tuple[Leftover, ...]): Dropped files still to be removed.
        last_seq (int): Highest sequence number given so far.
    """

    records: dict[str, Record] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    last_seq: int = 0

    def with_records(self, records: Iterable[Record]) -> Index:
        """Return the index with some records added or replaced."""
        added = {record.name: record for record in records}
        return replace(
            self, records={**self.records, **added},
            leftovers=tuple(item for item in self.leftovers if item.name not in added),
            last_seq=max([self.last_seq, *(record.seq for record in added.values())]))

    def without(self, names: Iterable[str], leftovers: Iterable[Leftover] = ()) -> Index:
        """Return the index with some records dropped, and what of their files is still to be removed."""
        gone = set(names)
        kept = {name: record for name, record in self.records.items() if name not in gone}
        return replace(self, records=kept, leftovers=(*self.leftovers, *leftovers))

    def of_run(self, run: int) -> list[Record]:
        """Return the records of one run."""
        return [record for record in self.records.values() if record.run == run]

    @property
    def current_run(self) -> int:
        """The run of the last attempt, or the last one of which there are files."""
        return self.attempts[-1].run if self.attempts else self.last_run

    @property
    def last_run(self) -> int:
        """The highest number of a run, 0 if there is none."""
        return max([0, *(a.run for a in self.attempts), *(r.run for r in self.records.values())])


def dump_index(index: Index) -> str:
    """Return the text of the index file.

    It carries a digest of its own content: a rotten byte must not turn into a
    wrong epoch or score.
    """
    content = {
        'version': VERSION,
        'last_seq': index.last_seq,
        'records': [record.to_json() for record in sorted(index.records.values(), key=lambda r: r.seq)],
        'leftovers': [asdict(item) for item in index.leftovers],
        'attempts': [attempt.to_json() for attempt in index.attempts],
    }
    entries = [f'"{key}": {_lines(value)}' for key, value in content.items()]
    return '{' + ',\n'.join([*entries, f'"digest": "{_digest(content)}"']) + '}\n'


def parse_index(text: str) -> Index:
    """Read what :func:`dump_index` wrote.

    Raises:
        BrokenIndexError: If the text was altered or is not an index.
        IncompatibleCheckpointError: If a newer mmckpt wrote it.

    Example:
        >>> parse_index(dump_index(Index(last_seq=4))).last_seq
        4
    """
    try:
        content = json.loads(text)
        digest = content.pop('digest')
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise BrokenIndexError(f'it is not the JSON of an index ({type(error).__name__}: {error})') from None
    if digest != _digest(content):
        raise BrokenIndexError('its content does not match its digest')
    if content.get('version') != VERSION:
        raise IncompatibleCheckpointError(
            f'{INDEX_NAME} has version {content.get("version")}, but this mmckpt reads version {VERSION}: '
            'it was written by a newer one. Update mmckpt, or choose another work_dir.')
    try:
        return _from_content(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenIndexError(f'a field is wrong ({type(error).__name__}: {error})') from None


def read_index(directory: Path) -> Index | None:
    """Return the index of a directory, or None where there is none.

    Raises:
        BrokenIndexError: If it cannot be trusted.
        IncompatibleCheckpointError: If a newer mmckpt wrote it.
    """
    try:
        text = (directory / INDEX_NAME).read_text(encoding='utf-8')
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise BrokenIndexError(f'it is not text ({error.reason} at byte {error.start})') from None
    return parse_index(text)


def _from_content(content: dict[str, Any]) -> Index:
    records = [Record.from_json(item) for item in content['records']]
    return Index(
        records={record.name: record for record in records},
        attempts=tuple(Attempt(**item) for item in content['attempts']),
        leftovers=tuple(Leftover(**item) for item in content['leftovers']),
        last_seq=content['last_seq'])


def _lines(value: Any) -> str:
    # One entry a line reads well, and an indent would cost the fast JSON encoder.
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return '[\n' + ',\n'.join(json.dumps(item) for item in value) + '\n]'


def _digest(content: dict[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(content).encode()).hexdigest()
