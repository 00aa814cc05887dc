"""A file that was verified is not read again for who was told so, unless anybody has touched it."""

from __future__ import annotations

import os

import pytest

from mmckpt.store import CheckpointStore, checks
from mmckpt.store.verdict import hand_over


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose bytes were read for a digest."""
    names, digest = [], checks.file_digest
    monkeypatch.setattr(checks, 'file_digest', lambda path, *rest: (names.append(path.name), digest(path, *rest))[1])
    return names


@pytest.fixture
def view(open_store, save):
    store = open_store()
    save(store, 1), save(store, 2)
    store.close('finished')
    return CheckpointStore.read(store.directory)


def test_it_is_read_once_for_the_one_that_it_was_handed_to(view, read):
    chosen = view.latest_valid()
    hand_over(view.directory / chosen.name)
    other = CheckpointStore.read(view.directory)
    assert other.latest_valid() == chosen and read == ['epoch_2.pth']
    assert other.latest_valid() == chosen and read == ['epoch_2.pth'] * 2, 'the answer is given once'


def test_nobody_relies_on_what_was_not_handed_over_or_is_another_file(view, read):
    view.latest_valid()
    assert view.verify_once(view.find('epoch_2.pth')) is None
    hand_over(view.directory / 'epoch_1.pth')
    assert view.verify_once(view.find('epoch_1.pth')) is None
    assert read == ['epoch_2.pth', 'epoch_2.pth', 'epoch_1.pth']


def test_a_file_that_did_not_verify_is_never_handed_over(view, read):
    flip(view.directory / 'epoch_2.pth')
    assert view.verify(view.find('epoch_2.pth')) is not None
    hand_over(view.directory / 'epoch_2.pth')
    assert 'digest' in view.verify_once(view.find('epoch_2.pth')) and len(read) == 2


def flip(path):
    with open(path, 'r+b') as file:
        file.seek(700)
        byte = file.read(1)[0]
        file.seek(700)
        file.write(bytes([byte ^ 1]))


def flip_and_hide_it(path):
    status = os.stat(path)
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_and_hide_it(path):
    status, other = os.stat(path), path.with_name('other')
    other.write_bytes(path.read_bytes())
    flip(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize('change', [flip, flip_and_hide_it, replace_and_hide_it])
def test_what_is_changed_after_it_was_verified_is_found(view, change):
    record = view.latest_valid()
    hand_over(view.directory / record.name)
    change(view.directory / record.name)
    assert 'digest' in view.verify_once(record)


def test_what_is_changed_while_it_is_verified_is_found(view):
    """The reader has the old bytes, and is done with them when they change."""
    record, path = view.find('epoch_2.pth'), view.directory / 'epoch_2.pth'
    assert view.verify(record, on_bytes=lambda size: size == record.size and flip(path)) is None
    hand_over(path)
    assert 'digest' in view.verify_once(record)


def test_a_file_that_is_gone_is_missing(view):
    record = view.latest_valid()
    hand_over(view.directory / record.name)
    (view.directory / record.name).unlink()
    assert view.verify_once(record) == 'the file is missing'
