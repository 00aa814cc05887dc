"""What the store promises, in one process and on a file system that works."""

from __future__ import annotations

import os
import re
import time

import pytest
import torch

from mmckpt.errors import SaveError
from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore, load_checkpoint


def files(store):
    return sorted(path.name for path in store.directory.glob('*.pth'))


def names(store):
    return sorted(record.name for record in store.records())


def test_a_written_file_is_what_was_saved(open_store, save, state):
    store = open_store()
    assert save(store, 3, metrics={'AP': 0.5}, val_pending=True)
    record = store.find('epoch_3.pth')
    assert (record.epoch, record.iter, record.run, record.attempt) == (3, 30, 1, 1)
    assert record.metrics == {'AP': 0.5} and record.val_pending
    assert store.verify(record) is None
    path = store.directory / 'epoch_3.pth'
    assert record.size == path.stat().st_size == store.bytes_written
    loaded = load_checkpoint(path)
    assert torch.equal(loaded['state_dict']['weight'], state(3)['state_dict']['weight'])
    assert loaded['meta'] == state(3)['meta']


def test_the_pointer_names_the_newest_periodic_file(open_store, save):
    store = open_store()
    save(store, 1)
    save(store, 2, point_last=False)
    assert store.directory.joinpath('last_checkpoint').read_text() == str(store.directory / 'epoch_1.pth')


def test_retention_drops_the_record_and_the_file_and_reports_the_bytes(open_store, save, said):
    store = open_store(retention=KeepLast(2))
    for step in range(1, 5):
        save(store, step)
    assert files(store) == names(store) == ['epoch_3.pth', 'epoch_4.pth']
    assert store.bytes_freed == store.bytes_written // 2
    assert 'Dropped epoch_2.pth' in said() and 'freed' in said()


def test_a_link_costs_no_bytes_and_survives_its_source(open_store, save):
    store = open_store(retention=AnyOf(KeepLast(1), KeepBest('best:AP', 1, 'greater')))
    save(store, 1)
    written = store.bytes_written
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': 0.9})
    assert store.bytes_written == written
    assert os.path.samefile(store.directory / 'epoch_1.pth', store.directory / 'best_AP_epoch_1.pth')
    save(store, 2)
    assert names(store) == files(store) == ['best_AP_epoch_1.pth', 'epoch_2.pth']
    assert store.verify(store.best('AP')) is None
    assert store.bytes_freed == 0, 'the bytes are still there under the other name'


def test_freed_bytes_count_a_file_once_when_all_its_names_go(open_store, save):
    store = open_store(retention=AnyOf(KeepLast(1), KeepBest('best:AP', 1, 'greater')))
    save(store, 1)
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': 0.1})
    size = store.find('epoch_1.pth').size
    save(store, 2, roles=('periodic', 'best:AP'), scores={'AP': 0.2})
    assert names(store) == files(store) == ['epoch_2.pth']
    assert store.bytes_freed == size


def test_a_link_to_itself_gains_the_roles(open_store, save):
    store = open_store()
    save(store, 1)
    store.link('epoch_1.pth', 'epoch_1.pth', roles=('best:AP',), scores={'AP': 0.9})
    record = store.find('epoch_1.pth')
    assert record.roles == ('periodic', 'best:AP') and record.scores == {'AP': 0.9} and record.seq == 1


def test_a_link_made_twice_is_made_once(open_store, save):
    store = open_store()
    save(store, 1)
    for score in (0.1, 0.2):
        store.link('epoch_1.pth', 'best.pth', roles=('best:AP',), scores={'AP': score})
    assert store.find('best.pth').scores == {'AP': 0.2}
    assert not list(store.directory.glob('.*.tmp'))


def test_a_link_to_what_was_never_written_is_said(open_store, said):
    store = open_store()
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',))
    assert not store.records() and 'best.pth is not made' in said()


@pytest.mark.parametrize('way', ['write', 'link'])
def test_a_file_whose_old_bytes_are_gone_counts_although_the_index_could_not_follow(open_store, state, save,
                                                                                    monkeypatch, way):
    store = open_store()
    for step in (1, 2):
        save(store, step)
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',), scores={'AP': .1})
    create = store._committer.catalog.backend.create

    def full(path):
        if path.name.startswith('.mmckpt_index'):
            raise OSError(28, 'No space left on device')
        return create(path)

    monkeypatch.setattr(store._committer.catalog.backend, 'create', full)
    told = []
    how = dict(roles=('best:AP',), scores={'AP': .2}, on_end=told.append)
    if way == 'write':
        assert store.write('best.pth', state(2), progress=Progress(2, 20), **how)
    else:
        store.link('epoch_2.pth', 'best.pth', **how)
    assert told == [True]
    for view in (store, CheckpointStore.read(store.directory)):
        assert view.find('best.pth').epoch == 2 and view.verify(view.find('best.pth')) is None


def test_amending_completes_records_without_touching_files(open_store, save):
    store = open_store()
    save(store, 1, val_pending=True)
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',))
    before = (store.directory / 'epoch_1.pth').stat()
    store.amend(['epoch_1.pth', 'best.pth', 'epoch_9.pth'], metrics={'AP': 0.5}, val_pending=False,
                post_validation={'hub': {'best_score': 0.5}})
    for view in (store, CheckpointStore.read(store.directory)):
        for record in view.records():
            assert record.metrics == {'AP': 0.5} and not record.val_pending
            assert record.post_validation == {'hub': {'best_score': 0.5}}
    after = (store.directory / 'epoch_1.pth').stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_a_name_is_replaced_never_overwritten(open_store, save, state):
    store = open_store()
    save(store, 1)
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',))
    mapped = load_checkpoint(store.directory / 'epoch_1.pth', mmap=True)
    store.write('epoch_1.pth', state(7), progress=Progress(1, 10), roles=('periodic',))
    assert mapped['state_dict']['weight'][0] == 1.0, 'a reader that had it open keeps what it had'
    assert load_checkpoint(store.directory / 'best.pth')['state_dict']['weight'][0] == 1.0
    assert load_checkpoint(store.directory / 'epoch_1.pth')['state_dict']['weight'][0] == 7.0
    assert all(store.verify(record) is None for record in store.records())


def test_a_fresh_run_in_a_used_directory_never_drops_files_of_the_old_one(open_store, save):
    first = open_store(retention=KeepLast(2))
    for step in (8, 9):
        save(first, step)
    first.close('finished')
    second = open_store(retention=KeepLast(1))
    for step in (1, 2, 3):
        save(second, step)
    assert names(second) == files(second) == ['epoch_3.pth', 'epoch_8.pth', 'epoch_9.pth']
    assert [record.name for record in second.records_of_run()] == ['epoch_3.pth']
    assert second.latest_valid().name == 'epoch_3.pth', 'newest is the order of commits, not the epoch'
    second.close('exception')
    resumed = open_store(resumed_from=second.directory / 'epoch_3.pth', retention=KeepLast(1))
    save(resumed, 4)
    assert names(resumed) == ['epoch_4.pth', 'epoch_8.pth', 'epoch_9.pth']
    assert [record.name for record in resumed.records_of_run()] == ['epoch_4.pth']


def test_a_resume_goes_on_with_the_run_of_its_file(open_store, save, tmp_path):
    first = open_store()
    save(first, 1)
    first.close('finished')
    second = open_store()
    save(second, 2)
    second.close('finished')
    runs = {}
    for source in ('epoch_1.pth', first.directory / 'epoch_2.pth', tmp_path / 'elsewhere' / 'epoch_1.pth'):
        store = open_store(resumed_from=source)
        runs[str(source)] = store.index.attempts[-1].run
        store.close('finished')
    assert list(runs.values()) == [1, 2, 3]


def test_the_newest_is_right_when_the_clock_goes_backwards(open_store, save, monkeypatch):
    store = open_store()
    monkeypatch.setattr(time, 'time', lambda: 2e9)
    save(store, 1)
    monkeypatch.setattr(time, 'time', lambda: 1e9)
    save(store, 2)
    assert store.newest().name == CheckpointStore.read(store.directory).latest_valid().name == 'epoch_2.pth'


def test_the_history_says_how_each_attempt_ended(open_store, save):
    for reason in ('finished', 'exception', 'signal'):
        store = open_store()
        store.close(reason)
    index = CheckpointStore.read(store.directory).index
    assert [(a.attempt, a.run, a.why, a.pid) for a in index.attempts] == [
        (i, i, why, os.getpid()) for i, why in enumerate(('finished', 'exception', 'signal'), start=1)]
    assert all(a.stop >= a.start for a in index.attempts)


def test_a_bad_file_is_skipped_with_the_reason_and_nothing_is_deleted(open_store, save, said):
    store = open_store()
    for step in (1, 2, 3, 4):
        save(store, step)
    store.close('finished')
    data = bytearray((store.directory / 'epoch_4.pth').read_bytes())
    data[len(data) // 2] ^= 1
    (store.directory / 'epoch_4.pth').write_bytes(data)
    (store.directory / 'epoch_3.pth').write_bytes(b'')
    (store.directory / 'epoch_2.pth').unlink()
    before = files(store)
    assert CheckpointStore.read(store.directory).latest_valid().name == 'epoch_1.pth'
    assert files(store) == before
    for name, reason in [('epoch_4', 'digest'), ('epoch_3', 'it has 0 bytes, but'), ('epoch_2', 'missing')]:
        assert re.search(f'{name}.pth is skipped: .*{reason}', said()), said()


def test_reading_changes_nothing_and_needs_no_lock(open_store, save):
    store = open_store()
    save(store, 1)
    before = {path.name: path.stat().st_mtime_ns for path in store.directory.iterdir()}
    view = CheckpointStore.read(store.directory)
    assert view.latest_valid().name == 'epoch_1.pth'
    assert {path.name: path.stat().st_mtime_ns for path in store.directory.iterdir()} == before


def test_reading_where_there_is_nothing_finds_nothing(tmp_path):
    view = CheckpointStore.read(tmp_path / 'nowhere')
    assert view.records() == [] and view.latest_valid() is None and view.newest() is None
    assert view.best('AP') is None and view.find('epoch_1.pth') is None


def test_records_whose_file_is_missing_are_taken_out_at_the_start(open_store, save, said):
    store = open_store()
    save(store, 1)
    save(store, 2)
    store.close('finished')
    (store.directory / 'epoch_2.pth').unlink()
    assert names(open_store(resumed_from='epoch_1.pth')) == ['epoch_1.pth']
    assert 'epoch_2.pth is in the index, but the file is missing' in said()


def test_strangers_are_left_alone(open_store, save, said):
    store = open_store(retention=KeepLast(1))
    save(store, 1)
    store.close('finished')
    for name in ('pretrained.pth', 'notes.txt', '.epoch_1.pth.swp', '.hidden.tmp'):
        (store.directory / name).write_bytes(b'mine')
    store = open_store(resumed_from='epoch_1.pth', retention=KeepLast(1))
    save(store, 2)
    for name in ('pretrained.pth', 'notes.txt', '.epoch_1.pth.swp', '.hidden.tmp'):
        assert (store.directory / name).read_bytes() == b'mine'
    assert 'not in its index are left alone: pretrained.pth' in said()


def test_a_dropped_file_that_could_not_be_removed_goes_later(open_store, save, monkeypatch, said):
    store = open_store(retention=KeepLast(1))
    save(store, 1)
    remove = store._committer.catalog.backend.remove

    def refuse(path):
        if path.suffix == '.pth':
            raise PermissionError(1, 'not permitted')
        remove(path)

    monkeypatch.setattr(store._committer.catalog.backend, 'remove', refuse)
    save(store, 2)
    assert names(store) == ['epoch_2.pth'] and files(store) == ['epoch_1.pth', 'epoch_2.pth']
    assert 'not needed any more, but cannot be removed' in said()
    monkeypatch.undo()
    store.close('finished')
    assert files(open_store(resumed_from='epoch_2.pth')) == ['epoch_2.pth']


def test_what_cannot_be_pickled_is_named_at_once_and_leaves_nothing(open_store, save, state):
    store = open_store()
    save(store, 1)
    broken = {**state(2), 'hooks': [{'callback': lambda: None}]}
    with pytest.raises(SaveError, match=re.escape("state['hooks'][0]['callback'] of the checkpoint")):
        store.write('epoch_2.pth', broken, progress=Progress(2, 20), roles=('periodic',))
    assert names(store) == files(store) == ['epoch_1.pth']
    assert not list(store.directory.glob('.*.tmp'))
    assert save(store, 2)


def test_a_store_that_is_not_open_says_so(tmp_path, state):
    store = CheckpointStore(tmp_path)
    for use in (lambda: store.write('a.pth', state(1), progress=Progress(1, 1), roles=()),
                lambda: store.link('a.pth', 'b.pth', roles=()), lambda: store.amend(['a.pth']), store.prune):
        with pytest.raises(SaveError, match=r'not open: call open\(\)'):
            use()
    store.close('finished')


@pytest.mark.parametrize('name', ['a/b.pth', '../a.pth', '', '.hidden'])
def test_a_name_that_leads_out_of_the_directory_is_refused(open_store, state, name):
    with pytest.raises(ValueError, match='plain file name'):
        open_store().write(name, state(1), progress=Progress(1, 1), roles=())


@pytest.mark.parametrize('kwargs, message', [
    (dict(async_save='yes'), "async_save must be True, False or 'auto', but got 'yes'"),
    (dict(async_save=True), 'needs stage'), (dict(async_save='auto'), 'needs stage'),
    (dict(on_busy='drop'), "on_busy must be 'wait' or 'skip', but got 'drop'"),
    (dict(max_failures=0), 'max_failures must be at least 1'),
    (dict(max_failures=True), 'max_failures must be at least 1'),
])
def test_a_wrong_argument_is_refused_at_construction(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        CheckpointStore(tmp_path, **kwargs)


def test_a_run_that_cannot_fit_is_told_so_with_numbers(open_store, said):
    store = open_store(retention=KeepLast(3))
    assert store.check_run_fits(1000)
    assert not store.check_run_fits(10 ** 17)
    assert re.search(r'3 checkpoints of 1\d+.0 GB .* only [\d.]+ GB are free. Keep at most 0', said()), said()
    assert store.check_run_fits(10 ** 8, files_to_keep=1)
