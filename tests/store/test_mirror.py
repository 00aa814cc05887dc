"""What a remote directory promises: never ahead of its bytes, never in training's way, good to go on from."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import uuid

import fsspec
import pytest
import xxhash

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, RemoteError
from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore, load_checkpoint
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.lock import LOCK_NAME
from mmckpt.store.mirror import Mirror
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory

LOG = logging.getLogger('mmckpt')


class Unreliable(RemoteDirectory):
    """A storage whose calls fail, or wait, when the test says so."""

    def __init__(self, url):
        super().__init__(url)
        self.fail_at, self.calls, self.log, self.whole = set(), 0, [], []
        self.gate = threading.Event()
        self.gate.set()

    def _call(self, what):
        assert self.gate.wait(60), 'the test forgot to open the gate'
        # At every step, in the thread of the mirror: what a reader would find now.
        index = self.read_index()
        sizes = {name: size_at(self.url, name) for name in (index.records if index else ())}
        self.whole += [size == index.records[name].size for name, size in sizes.items()]
        self.log.append(what)
        self.calls += 1
        if self.calls in self.fail_at:
            raise ConnectionError('the line is dead')

    def write_index(self, index):
        self._call('index')
        super().write_index(index)

    def upload(self, local, record):
        self._call(f'upload {record.name}')
        super().upload(local, record)

    def copy(self, source, name):
        self._call(f'copy {name}')
        super().copy(source, name)

    def remove(self, name):
        self._call(f'remove {name}')
        super().remove(name)


@pytest.fixture(params=['memory', 'file'])
def url(request, tmp_path):
    return f'memory://{uuid.uuid4().hex}/run' if request.param == 'memory' else f'file://{tmp_path}/remote/run'


@pytest.fixture
def mirrored(open_store, tmp_path):
    """Open a store whose commits go to a remote directory; return both."""

    def open_one(url, directory=tmp_path / 'run', **kwargs):
        remote = Unreliable(url)
        store = open_store(directory=directory, mirror=Mirror(remote, directory, LOG, first_delay=0.001), **kwargs)
        return store, remote

    return open_one


def names_at(url):
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path.rpartition('/')[2] for path in fs.ls(root, detail=False))


def bytes_at(url, name):
    return fsspec.core.url_to_fs(url)[0].cat_file(f'{fsspec.core.url_to_fs(url)[1]}/{name}')


def size_at(url, name):
    try:
        return len(bytes_at(url, name))
    except FileNotFoundError:
        return None


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, 'the mirror does not come to the expected state'
        time.sleep(0.002)


def test_it_holds_what_the_run_keeps_and_its_index_names_nothing_else(mirrored, save, url, tmp_path):
    store, _ = mirrored(url, retention=AnyOf(KeepLast(2), KeepBest('best:AP', 1, 'greater')))
    for step, score in [(1, .3), (2, .9), (3, .4), (4, .5)]:
        save(store, step)
        if score in (.3, .9):
            store.link(f'epoch_{step}.pth', f'best_AP_epoch_{step}.pth', roles=('best:AP',), scores={'AP': score})
    store.close('finished')
    assert names_at(url) == ['best_AP_epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth', INDEX_NAME]
    remote = RemoteDirectory(url).read_index()
    assert remote.records == store.index.records and remote.attempts[-1].why == 'finished'
    for name in remote.records:
        assert bytes_at(url, name) == (tmp_path / 'run' / name).read_bytes()


def test_second_names_do_not_travel(mirrored, save, url):
    store, remote = mirrored(url)
    save(store, 1)
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': 1.})
    store.close('finished')
    assert sum(call.startswith('upload') for call in remote.log) == 1
    assert bytes_at(url, 'epoch_1.pth') == bytes_at(url, 'best_AP_epoch_1.pth')


@pytest.mark.parametrize('step', range(1, 16))
def test_a_failure_at_any_step_leaves_only_whole_files_in_the_index_and_is_made_up(mirrored, save, step, tmp_path):
    url = f'memory://{uuid.uuid4().hex}/run'
    store, remote = mirrored(url, retention=KeepLast(1))
    remote.fail_at = {step, step + 1}
    for number in (1, 2, 3):
        save(store, number)
        until(lambda: store._session._mirror._is_done() or remote.calls in remote.fail_at)
    store.close('finished')
    assert all(remote.whole)
    assert RemoteDirectory(url).read_index().records == store.index.records
    assert names_at(url) == ['epoch_3.pth', INDEX_NAME]


def test_training_does_not_wait_for_a_storage_that_hangs(mirrored, save, url, said, monkeypatch):
    monkeypatch.setattr('mmckpt.store.session._UPLOAD_PATIENCE', 0.05)
    store, remote = mirrored(url, retention=KeepLast(1))
    remote.gate.clear()
    for step in (1, 2, 3):
        assert save(store, step)
    started = time.perf_counter()
    store.close('finished')
    assert time.perf_counter() - started < 5
    assert 'does not hold the newest checkpoints' in said()
    remote.gate.set()


def test_a_storage_that_is_behind_gets_the_newest_state_only(mirrored, save, url):
    store, remote = mirrored(url, retention=KeepLast(1))
    until(lambda: remote.log == ['index'])
    remote.gate.clear()
    for step in (1, 2, 3, 4):
        save(store, step)
    remote.gate.set()
    store.close('finished')
    uploads = [call for call in remote.log if call.startswith('upload')]
    assert uploads[-1] == 'upload epoch_4.pth' and len(uploads) <= 2


@pytest.fixture
def write_best(state):
    """Give the best, which has one name for ever, the bytes of a step."""
    def write(store, step, linked):
        how = dict(roles=('best:AP',), scores={'AP': step / 10}, rules={'AP': 'greater'})
        if linked:
            store.write(f'epoch_{step}.pth', state(step), progress=Progress(step, 10 * step), roles=('periodic',))
            store.link(f'epoch_{step}.pth', 'best.pth', **how)
        else:
            store.write('best.pth', state(step), progress=Progress(step, 10 * step), **how)

    return write


def best_there(url):
    """The step of the best that a reader finds now, with its bytes checked; None if there is none."""
    index = RemoteDirectory(url).read_index()
    found = [record for record in (index.records.values() if index else ()) if 'best:AP' in record.roles]
    whole = [record for record in found
             if f'xxh3-128:{xxhash.xxh3_128(bytes_at(url, record.name)).hexdigest()}' == record.digest]
    return max((record.epoch for record in whole), default=None)


@pytest.mark.parametrize('linked', [False, True])
@pytest.mark.parametrize('fail_at', [None, *range(1, 8)])
def test_a_best_that_is_written_anew_is_never_missing(mirrored, write_best, linked, fail_at):
    url = f'memory://{uuid.uuid4().hex}/run'
    store, remote = mirrored(url, retention=AnyOf(KeepLast(1), KeepBest('best:AP', 1, 'greater')))
    write_best(store, 1, linked)
    until(store._session._mirror._is_done)
    seen, call, remote.calls = [], remote._call, 0
    remote.fail_at = {fail_at}
    remote._call = lambda what: (seen.append(best_there(url)), call(what))
    write_best(store, 2, linked)
    store.close('finished')
    assert seen and set(seen) <= {1, 2} and seen == sorted(seen), 'the old or the new one, whole, at every moment'
    assert best_there(url) == 2 and all(remote.whole)
    assert names_at(url) == ['best.pth', *(['epoch_2.pth'] if linked else []), INDEX_NAME]
    assert RemoteDirectory(url).read_index().records == store.index.records


def test_a_best_that_changes_while_it_is_uploaded_is_never_taken_for_the_one_before(mirrored, write_best):
    url = f'memory://{uuid.uuid4().hex}/run'
    store, remote = mirrored(url, retention=KeepBest('best:AP', 1, 'greater'))
    write_best(store, 1, linked=False)
    until(store._session._mirror._is_done)
    seen, call, upload = [], remote._call, remote.upload
    arrived, rewritten = threading.Event(), threading.Event()

    def waiting(local, record):
        arrived.set()
        assert rewritten.wait(20)
        upload(local, record)

    remote._call, remote.upload = lambda what: (seen.append(best_there(url)), call(what)), waiting
    write_best(store, 2, linked=False)
    assert arrived.wait(20)
    write_best(store, 3, linked=False)
    rewritten.set()
    store.close('finished')
    assert set(seen) <= {1, 3} and best_there(url) == 3 and names_at(url) == ['best.pth', INDEX_NAME]


@pytest.mark.parametrize('dies_at', range(1, 8))
def test_a_process_that_dies_while_it_replaces_a_best_leaves_one_and_the_next_one_clears_up(mirrored, write_best,
                                                                                              dies_at):
    url = f'memory://{uuid.uuid4().hex}/run'
    store, remote = mirrored(url, retention=KeepBest('best:AP', 1, 'greater'))
    write_best(store, 1, linked=False)
    until(store._session._mirror._is_done)
    remote.calls, remote.fail_at = 0, range(dies_at, 99)
    write_best(store, 2, linked=False)
    until(lambda: remote.calls >= dies_at or store._session._mirror._is_done())
    store._session.abandon()
    assert best_there(url) in (1, 2)
    following, _ = mirrored(url, resumed_from='best.pth', retention=KeepBest('best:AP', 1, 'greater'))
    following.close('finished')
    assert best_there(url) == 2 and names_at(url) == ['best.pth', INDEX_NAME]
    assert RemoteDirectory(url).read_index().records == following.index.records


def test_the_directory_stays_taken_until_the_upload_is_done(mirrored, save, url, tmp_path):
    def another_process_gets_it():
        lock = ('import fcntl, sys; fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)')
        return subprocess.run([sys.executable, '-c', lock, str(tmp_path / 'run' / LOCK_NAME)],
                              stderr=subprocess.DEVNULL).returncode == 0

    store, remote = mirrored(url)
    until(store._session._mirror._is_done)
    remote.gate.clear()
    save(store, 1)
    closing = threading.Thread(target=store.close, args=('finished',))
    closing.start()
    until(lambda: store.index.attempts[-1].why == 'finished')
    assert not another_process_gets_it() and closing.is_alive()
    remote.gate.set()
    closing.join(20)
    assert 'epoch_1.pth' in names_at(url) and another_process_gets_it()


@pytest.mark.parametrize('error', [KeyboardInterrupt, None])
def test_the_directory_is_given_back_when_nobody_waits_any_longer(mirrored, save, url, monkeypatch, error):
    monkeypatch.setattr('mmckpt.store.session._UPLOAD_PATIENCE', 0.05)
    store, remote = mirrored(url)
    until(store._session._mirror._is_done)
    remote.gate.clear()
    save(store, 1)
    if error is None:
        store.close('finished')
    else:
        monkeypatch.setattr(store._session._mirror, '_is_done', lambda: (_ for _ in ()).throw(error))
        with pytest.raises(error):
            store.close('finished')
        monkeypatch.undo()
    calls = remote.calls
    following, _ = mirrored(url)
    remote.gate.set()
    store._session._mirror._thread.join(20)
    assert remote.calls <= calls + 1, 'the one that was given up does nothing after what it was doing'
    following.close('finished')


def test_another_machine_goes_on_from_the_newest_and_the_history(mirrored, save, url, tmp_path):
    keep = AnyOf(KeepLast(1), KeepBest('best:AP', 1, 'greater'))
    store, _ = mirrored(url, retention=keep)
    save(store, 1)
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': .5})
    save(store, 2)
    store.close('finished')
    there = tmp_path / 'other' / 'run'
    assert pull(RemoteDirectory(url), there, LOG, download=True).name == 'epoch_2.pth'
    assert load_checkpoint(there / 'epoch_2.pth')['meta']['epoch'] == 2
    assert CheckpointStore.read(there).latest_valid() == store.find('epoch_2.pth')
    store, _ = mirrored(url, directory=there, retention=keep, resumed_from=there / 'epoch_2.pth')
    save(store, 3)
    # The best that only the storage has stays until there is a better one.
    until(store._session._mirror._is_done)
    assert names_at(url) == ['best_AP_epoch_1.pth', 'epoch_3.pth', INDEX_NAME]
    store.link('epoch_3.pth', 'best_AP_epoch_3.pth', roles=('best:AP',), scores={'AP': .6})
    store.close('finished')
    assert names_at(url) == ['best_AP_epoch_3.pth', 'epoch_3.pth', INDEX_NAME]
    assert [a.attempt for a in RemoteDirectory(url).read_index().attempts] == [1, 2]
    assert store.find('epoch_3.pth').run == 1


def test_a_fresh_run_there_leaves_the_earlier_one_alone(mirrored, save, url, tmp_path):
    store, _ = mirrored(url, retention=KeepLast(1))
    save(store, 7)
    store.close('finished')
    there = tmp_path / 'other' / 'run'
    assert pull(RemoteDirectory(url), there, LOG, download=False) is None
    store, _ = mirrored(url, directory=there, retention=KeepLast(1))
    save(store, 1)
    save(store, 2)
    store.close('finished')
    assert names_at(url) == ['epoch_2.pth', 'epoch_7.pth', INDEX_NAME]
    assert {r.name: r.run for r in RemoteDirectory(url).read_index().records.values()} == {
        'epoch_7.pth': 1, 'epoch_2.pth': 2}


def test_what_did_not_arrive_whole_is_skipped_with_the_reason(mirrored, save, url, tmp_path, said):
    store, _ = mirrored(url)
    save(store, 1), save(store, 2), store.close('finished')
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f'{root}/epoch_2.pth', b'rotten')
    there = tmp_path / 'other'
    assert pull(RemoteDirectory(url), there, LOG, download=True).name == 'epoch_1.pth'
    assert 'epoch_2.pth is skipped: 6 bytes' in said()
    assert sorted(f.name for f in there.iterdir() if not f.name.startswith('.')) == ['epoch_1.pth', INDEX_NAME]
    fs.rm_file(f'{root}/epoch_1.pth')
    with pytest.raises(CorruptCheckpointError, match='None of the 2 checkpoints'):
        pull(RemoteDirectory(url), tmp_path / 'third', LOG, download=True)


def test_a_local_directory_that_is_ahead_is_left_alone(mirrored, save, url, tmp_path):
    store, _ = mirrored(url)
    save(store, 1)
    store.close('finished')
    with CheckpointStoreWithoutMirror(tmp_path / 'run') as ahead:
        save(ahead, 2)
    before = (tmp_path / 'run' / INDEX_NAME).read_bytes()
    assert pull(RemoteDirectory(url), tmp_path / 'run', LOG, download=True) is None
    assert (tmp_path / 'run' / INDEX_NAME).read_bytes() == before
    store, _ = mirrored(url, resumed_from=tmp_path / 'run' / 'epoch_2.pth')
    store.close('finished')
    assert names_at(url) == ['epoch_1.pth', 'epoch_2.pth', INDEX_NAME]


class CheckpointStoreWithoutMirror:
    def __init__(self, directory):
        self.store = CheckpointStore(directory)

    def __enter__(self):
        self.store.open(resumed_from=self.store.directory / 'epoch_1.pth')
        return self.store

    def __exit__(self, *error):
        self.store.close('finished')


def test_one_checkpoint_by_name(mirrored, save, url, tmp_path):
    store, _ = mirrored(url)
    save(store, 1), save(store, 2), store.close('finished')
    assert pull(RemoteDirectory(url), tmp_path / 'a', LOG, download=True, name='epoch_1.pth').epoch == 1
    with pytest.raises(CheckpointNotFoundError, match="has no checkpoint epoch_l.pth. Did you mean 'epoch_"):
        pull(RemoteDirectory(url), tmp_path / 'a', LOG, download=True, name='epoch_l.pth')


@pytest.mark.parametrize('url, said', [
    ('nowhere://bucket/run', 'cannot be reached.*nowhere'),
    ('memory://rotten/run', 'mmckpt_index.json of .* is broken')])
def test_a_storage_that_cannot_be_used_is_named(url, said, tmp_path):
    fsspec.filesystem('memory').pipe_file(f'/rotten/run/{INDEX_NAME}', b'{"version"')
    with pytest.raises(RemoteError, match=said):
        pull(RemoteDirectory(url), tmp_path, LOG, download=True)


def test_a_mirror_that_was_closed_never_touches_the_index_of_the_next(mirrored, save, url, monkeypatch):
    monkeypatch.setattr('mmckpt.store.session._UPLOAD_PATIENCE', 0.01)
    store, remote = mirrored(url)
    until(lambda: store._session._mirror._is_done())
    arrived, opened, upload = threading.Event(), threading.Event(), remote.upload

    def slow(local, record):
        arrived.set()
        assert opened.wait(20)
        upload(local, record)

    remote.upload = slow
    save(store, 1)
    assert arrived.wait(20)
    store.close('finished')
    written = remote.log.count('index')
    opened.set()
    store._session._mirror._thread.join(20)
    assert not store._session._mirror._thread.is_alive() and remote.log.count('index') == written


def test_a_password_in_a_url_is_not_shown():
    with pytest.raises(RemoteError) as error:
        RemoteDirectory('nosuchscheme://me:secret@host/runs')
    assert 'secret' not in str(error.value) and 'me:***@host' in str(error.value)
