"""The note that a file is about to get its name: after a crash its bytes decide whether it counts.

Between the rename of a file and the commit of its record, a crash would leave
a sound checkpoint that nobody knows of, or the record of a file that has just
been replaced. The note holds the record that was about to be committed.
"""

from __future__ import annotations

import json
from pathlib import Path

import xxhash

from mmckpt.store.backend import StorageBackend, write_text_durably
from mmckpt.store.checks import byte_fault
from mmckpt.store.index import Index
from mmckpt.store.record import Record

INTENT_NAME = '.mmckpt_intent.json'


def note_intent(backend: StorageBackend, directory: Path, record: Record, replaces: bool) -> None:
    """Note which record will be committed next.

    Args:
        backend (StorageBackend): The file system.
        directory (Path): Where the index lies.
        record (Record): The record.
        replaces (bool): Whether the index knows the name already. Only then must
            the note survive a power cut: a file that is new and not known costs
            that save, an old record with new bytes would be wrong.
    """
    content = record.to_json()
    text = json.dumps({'record': content, 'digest': _digest(content)})
    if replaces:
        write_text_durably(backend, directory / INTENT_NAME, text)
    else:
        (directory / INTENT_NAME).write_text(text, encoding='utf-8')


def settle_intent(directory: Path, index: Index) -> Index:
    """Take in a file that got its name but not its record, if its bytes are those that were noted.

    Args:
        directory (Path): Where the index lies; nothing in it is changed.
        index (Index): What was committed.

    Returns:
        Index: The same, or one with that record.
    """
    record = noted_record(directory)
    # A sequence number that the index has seen was committed, and perhaps dropped since.
    if record is not None and record.seq > index.last_seq and byte_fault(directory / record.name, record) is None:
        return index.with_records([record])
    return index


def noted_record(directory: Path) -> Record | None:
    """Return the record that was about to be committed last, or None: no note, or one that was torn by a crash."""
    try:
        note = json.loads((directory / INTENT_NAME).read_text(encoding='utf-8'))
        return Record.from_json(note['record']) if note['digest'] == _digest(note['record']) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(content: dict) -> str:
    return xxhash.xxh3_128(json.dumps(content).encode()).hexdigest()
