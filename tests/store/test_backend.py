"""Sinks, the durable sequences, and file systems that lack something."""

from __future__ import annotations

import errno
import fcntl
import logging
import os

import pytest
import xxhash

from mmckpt.store.backend import (
    LocalBackend,
    file_digest,
    link_temporary,
    rename,
    write_temporary,
    write_text_durably,
)
from mmckpt.store.progress_log import ProgressLog
from mmckpt.store.sink import CHUNK, BufferedSink, DirectSink

SIZES = [0, 1, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5000]


@pytest.mark.parametrize('sink_type', [BufferedSink, DirectSink])
@pytest.mark.parametrize('size', SIZES)
def test_a_sink_writes_every_byte(tmp_path, sink_type, size):
    data = os.urandom(size)
    try:
        sink = sink_type(tmp_path / 'file')
    except OSError as error:
        assert sink_type is DirectSink and error.errno == errno.EINVAL
        pytest.skip('this file system has no O_DIRECT')
    step = max(1, size // 7)
    for start in range(0, size, step):
        sink.write(memoryview(data)[start:start + step])
    sink.finish()
    assert (tmp_path / 'file').read_bytes() == data


@pytest.mark.parametrize('refuses', ['open', 'write'])
def test_without_o_direct_the_file_goes_through_the_cache(tmp_path, monkeypatch, refuses, open_store, save):
    real_open, real_write, direct = os.open, os.write, set()

    def fake_open(path, flags, *args, **kwargs):
        if flags & os.O_DIRECT and refuses == 'open':
            raise OSError(errno.EINVAL, 'no O_DIRECT')
        descriptor = real_open(path, flags & ~os.O_DIRECT, *args, **kwargs)
        (direct.add if flags & os.O_DIRECT else direct.discard)(descriptor)
        return descriptor

    def fake_write(descriptor, data):
        if descriptor in direct and refuses == 'write':
            raise OSError(errno.EINVAL, 'no O_DIRECT')
        return real_write(descriptor, data)

    def fake_fcntl(descriptor, command, flags=0):
        if command == fcntl.F_SETFL:
            direct.discard(descriptor)
        return os.O_DIRECT if descriptor in direct else 0

    monkeypatch.setattr(os, 'open', fake_open)
    monkeypatch.setattr(os, 'write', fake_write)
    monkeypatch.setattr('fcntl.fcntl', fake_fcntl)
    store = open_store()
    assert save(store, 1)
    assert store.verify(store.find('epoch_1.pth')) is None


@pytest.mark.parametrize('number', [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK])
def test_without_hard_links_a_best_is_a_copy(monkeypatch, open_store, save, number):
    def no_links(source, target):
        raise OSError(number, 'no links')

    monkeypatch.setattr(os, 'link', no_links)
    store = open_store()
    save(store, 1)
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',), scores={'AP': 1.0})
    best = store.find('best.pth')
    assert best.digest == store.find('epoch_1.pth').digest and store.verify(best) is None
    assert not os.path.samefile(store.directory / 'best.pth', store.directory / 'epoch_1.pth')
    assert store.bytes_written == 2 * best.size


def test_a_copy_of_a_file_that_rotted_is_not_made(monkeypatch, open_store, save, said):
    monkeypatch.setattr(LocalBackend, 'link', lambda self, source, target: False)
    store = open_store()
    save(store, 1)
    path = store.directory / 'epoch_1.pth'
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',))
    assert store.find('best.pth') is None and not (store.directory / 'best.pth').exists()
    assert 'epoch_1.pth has changed on the disk' in said()


def test_the_digest_is_that_of_the_bytes(tmp_path):
    data = os.urandom(CHUNK + 17)
    temporary, written = write_temporary(LocalBackend(), tmp_path / 'file', lambda file: file.write(data))
    assert temporary.read_bytes() == data and written.size == len(data)
    assert written.digest == file_digest(temporary) == f'xxh3-128:{xxhash.xxh3_128(data).hexdigest()}'


@pytest.mark.parametrize('error', [OSError(28, 'full'), KeyboardInterrupt(), ZeroDivisionError()])
def test_nothing_is_left_of_a_write_that_fails(tmp_path, error):
    def produce(file):
        file.write(b'x' * 10000)
        raise error

    with pytest.raises(type(error)):
        write_temporary(LocalBackend(), tmp_path / 'file', produce)
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    for text in ('old', 'new ä'):
        write_text_durably(LocalBackend(), tmp_path / 'file', text)
        assert (tmp_path / 'file').read_text(encoding='utf-8') == text
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_that_is_already_there_does_not_leave_its_temporary_name(tmp_path):
    (tmp_path / 'file').write_bytes(b'x')
    temporary, copied = link_temporary(LocalBackend(), tmp_path / 'file', tmp_path / 'link')
    rename(LocalBackend(), temporary, tmp_path / 'link')
    assert copied is None and os.path.samefile(tmp_path / 'file', tmp_path / 'link')


def test_a_long_write_says_how_far_it_is(said):
    seconds = iter([0.0, 1.0, 4.9, 5.0, 9.0, 10.1])
    log = ProgressLog('epoch_1.pth', 10 ** 9, logging.getLogger('mmckpt'), clock=lambda: next(seconds))
    for size in (1, 2, 250_000_000, 3, 990_000_000):
        log(size)
    lines = said().splitlines()
    assert lines == ['Writing epoch_1.pth: 250.0 MB of about 1.0 GB (25 %), 50.0 MB/s.',
                     'Writing epoch_1.pth: 990.0 MB of about 1.0 GB (99 %), 98.0 MB/s.']
