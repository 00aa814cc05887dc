"""Records and the index file."""

from __future__ import annotations

import json
import math
import random

import pytest

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.store.index import (
    INDEX_NAME,
    Attempt,
    BrokenIndexError,
    Index,
    Leftover,
    dump_index,
    parse_index,
    read_index,
)
from mmckpt.store.record import Record, newest_first

FULL = Record('epoch_3.pth', 7, 2, 3, epoch=3, iter=120, time=0.1 + 0.2, size=11, digest='xxh3-128:ab',
              roles=('periodic', 'best:coco/AP'), scores={'coco/AP': math.inf},
              metrics={'PCK': 0.0, 'AP': -math.inf}, val_pending=True,
              post_validation={'schedulers': [{'last_epoch': 3}], 'note': 'ä', 'none': None})
INDEX = Index(records={FULL.name: FULL}, leftovers=(Leftover('old.pth', 3, 4),), last_seq=9,
              attempts=(Attempt(1, 1, 'host', 12, start=1.5, stop=None, why='killed'),))


def test_an_index_comes_back_as_it_was():
    assert parse_index(dump_index(INDEX)) == INDEX


def test_a_score_of_nan_comes_back_and_strict_readers_take_it():
    nan = Record.from_json({**FULL.to_json(), 'scores': {'AP': 'nan'}})
    text = dump_index(Index(records={nan.name: nan}))

    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    json.loads(text, parse_constant=refuse)
    assert math.isnan(parse_index(text).records[nan.name].scores['AP'])


def test_any_changed_byte_is_noticed():
    text = dump_index(INDEX)
    rng = random.Random(0)
    for _ in range(300):
        at = rng.randrange(len(text))
        changed = text[:at] + chr((ord(text[at]) ^ (1 << rng.randrange(6))) & 127) + text[at + 1:]
        try:
            result = parse_index(changed)
        except (BrokenIndexError, IncompatibleCheckpointError):
            continue
        # White space and the like between fields may change; what is read may not.
        assert result == INDEX


HALF = dump_index(INDEX)[:-40]


@pytest.mark.parametrize('text', ['', '{', '[]', 'null', '{}', '"a"', '{"digest": 3}', HALF])
def test_what_is_no_index_is_broken(text):
    with pytest.raises(BrokenIndexError):
        parse_index(text)


def test_an_index_that_is_not_text_is_broken(tmp_path):
    (tmp_path / INDEX_NAME).write_bytes(b'\xff\xfe\x00')
    with pytest.raises(BrokenIndexError, match='not text'):
        read_index(tmp_path)


def test_an_index_of_a_newer_version_is_refused_not_rebuilt(monkeypatch):
    monkeypatch.setattr('mmckpt.store.index.VERSION', 2)
    text = dump_index(INDEX)
    monkeypatch.undo()
    with pytest.raises(IncompatibleCheckpointError, match='version 2, but this mmckpt reads version 1'):
        parse_index(text)


@pytest.mark.parametrize('name', ['../epoch_1.pth', '/etc/passwd', 'a/b.pth', '', '.hidden.pth', '..'])
def test_a_record_cannot_lead_out_of_its_directory(name):
    with pytest.raises(ValueError, match='plain file name'):
        Record.from_json({**FULL.to_json(), 'name': name})


def test_sequence_numbers_are_never_given_twice():
    index = Index().with_records([FULL]).without([FULL.name])
    assert not index.records
    assert index.last_seq == FULL.seq


def test_newest_is_the_highest_sequence_number_whatever_clock_and_epoch_say():
    old = Record('epoch_9.pth', 1, 1, 1, 9, 90, time=9e9, size=1, digest='a', roles=('periodic',))
    new = Record('epoch_1.pth', 2, 2, 2, 1, 10, time=1.0, size=1, digest='b', roles=('periodic',))
    assert newest_first([old, new]) == [new, old]
