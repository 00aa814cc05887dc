"""A directory that a training wrote is one checkpoint: listed, verified, linked, dropped and found as a unit."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from mmckpt.cli.main import main
from mmckpt.errors import IncompatibleCheckpointError, SaveError
from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore, directories, find_checkpoint, load_checkpoint
from mmckpt.store.backend import LocalBackend
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.unit import MANIFEST, STATE


@pytest.fixture
def save_directory(state):
    """Write the state of a step as a directory of files, and link it as a best if it has a score."""

    def save_one(store, step, score=None, name=None):
        name = name or f'epoch_{step}.pth'
        staged = store.stage_checkpoint(name)
        (staged.path / 'optimizer').mkdir(parents=True)
        for rank in range(2):
            torch.save({'w': torch.full((100,), step + rank)}, staged.path / f'rank{rank}.pth')
            torch.save({'m': torch.full((50,), step + rank)}, staged.path / f'optimizer/rank{rank}.pt')
        told = {key: value for key, value in state(step).items() if key != 'state_dict'}
        told['mmckpt']['bests'] = [] if score is None else [
            dict(name=f'best_AP_{name}', epoch=step, iter=10 * step, roles=['best:AP'], scores={'AP': score},
                 rules={'AP': 'greater'}, metrics={})]
        torch.save(told, staged.path / STATE)
        saved = store.write(name, staged, progress=Progress(step, 10 * step), roles=('periodic',))
        if score is not None:
            store.link(name, f'best_AP_{name}', roles=('best:AP',), scores={'AP': score}, rules={'AP': 'greater'})
        return saved

    return save_one


def names(directory):
    return sorted(path.name for path in directory.glob('*.pth'))


def test_a_directory_is_written_linked_verified_and_dropped_as_one(open_store, save_directory):
    store = open_store(retention=AnyOf(KeepLast(2), KeepBest('best:AP', 1, 'greater')))
    for step, score in enumerate([.3, .9, None, None], start=1):
        assert save_directory(store, step, score)
    assert names(store.directory) == ['best_AP_epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth']
    record = store.find('epoch_4.pth')
    files = [path for path in (store.directory / 'epoch_4.pth').rglob('*') if path.is_file() and path.name != MANIFEST]
    assert record.is_directory and len(files) == 5 and record.size == sum(path.stat().st_size for path in files)
    assert all(store.verify(r) is None for r in store.records())
    assert not [path for path in store.directory.iterdir() if path.name.endswith('.tmp')]
    # The first is gone with its link; the second lives on as a best.
    assert store.files_dropped == 1 and store.bytes_freed > record.size
    assert (store.directory / 'last_checkpoint').read_text() == str(store.directory / 'epoch_4.pth')


def test_a_best_shares_its_files_with_the_step(open_store, save_directory):
    store = open_store()
    save_directory(store, 1, score=.5)
    one, other = (store.directory / name for name in ('epoch_1.pth', 'best_AP_epoch_1.pth'))
    assert os.path.samefile(one / 'optimizer/rank1.pt', other / 'optimizer/rank1.pt')
    assert store.find('epoch_1.pth').digest == store.find('best_AP_epoch_1.pth').digest


def test_where_there_are_no_links_a_best_is_a_copy_that_verifies(open_store, save_directory):
    class NoLinks(LocalBackend):
        def link(self, source, target):
            return False

    store = open_store(backend=NoLinks())
    save_directory(store, 1, score=.5)
    one, other = (store.directory / name for name in ('epoch_1.pth', 'best_AP_epoch_1.pth'))
    assert not os.path.samefile(one / 'rank0.pth', other / 'rank0.pth')
    assert store.verify(store.find('best_AP_epoch_1.pth')) is None
    # A copy of bytes that have changed is refused.
    (one / 'rank0.pth').write_bytes(b'x' * (one / 'rank0.pth').stat().st_size)
    store.link('epoch_1.pth', 'best_PCK_epoch_1.pth', roles=('best:PCK',))
    assert store.find('best_PCK_epoch_1.pth') is None and names(store.directory) == [
        'best_AP_epoch_1.pth', 'epoch_1.pth']


DAMAGES = {
    'a byte': (lambda d: _flip(d / 'optimizer/rank1.pt'), 'optimizer/rank1.pt has the digest'),
    'half a file': (lambda d: (d / 'rank0.pth').write_bytes(b'half'), 'rank0.pth has 4 bytes, but'),
    'a file less': (lambda d: (d / 'rank1.pth').unlink(), 'rank1.pth is missing'),
    'a file more': (lambda d: (d / 'rank2.pth').write_bytes(b''), 'rank2.pth does not belong to it'),
    'no manifest': (lambda d: (d / MANIFEST).unlink(), f'its {MANIFEST} is missing'),
    'another manifest': (lambda d: (d / MANIFEST).write_text('{"files": {}}'), 'its manifest has the digest'),
    'no JSON': (lambda d: (d / MANIFEST).write_text('{'), 'is not a manifest'),
}


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('damage', DAMAGES)
def test_what_is_wrong_with_a_directory_is_named_and_the_one_before_is_used(damage, open_store, save_directory, said):
    store = open_store()
    save_directory(store, 1), save_directory(store, 2)
    spoil, fault = DAMAGES[damage]
    spoil(store.directory / 'epoch_2.pth')
    assert fault in store.verify(store.find('epoch_2.pth'))
    found = find_checkpoint(store.directory, 'latest')
    assert found.path.name == 'epoch_1.pth' and fault in said()


def test_a_directory_takes_the_place_of_a_directory_and_of_a_file_and_a_file_its(open_store, save_directory, save):
    store = open_store()
    for write in (save_directory, save_directory, save, save_directory):
        write(store, 1)
        assert store.verify(store.find('epoch_1.pth')) is None
        assert (store.directory / 'epoch_1.pth').is_dir() == (write is save_directory)
    assert names(store.directory) == ['epoch_1.pth']
    assert not list(store.directory.glob('.*.tmp'))


@pytest.mark.parametrize('at', ['old without a name', 'new without a name'])
def test_without_an_exchange_of_names_a_kill_between_two_renames_loses_nothing(
        at, open_store, save_directory, monkeypatch):
    monkeypatch.setattr(directories, 'exchange', lambda first, second: False)
    store = open_store()
    save_directory(store, 1)
    before, rename, calls = store.find('epoch_1.pth').digest, os.rename, []

    def dies(source, target):
        if str(target).endswith('epoch_1.pth') or (at == 'old without a name' and calls):
            raise KeyboardInterrupt
        calls.append(rename(source, target))

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(os, 'rename', dies)
        killed.setattr(LocalBackend, 'remove', lambda self, path: None)
        save_directory(store, 2, name='epoch_1.pth')
    assert not (store.directory / 'epoch_1.pth').exists()
    if at == 'old without a name':
        # Somebody has removed the new one since.
        for path in store.directory.glob('.epoch_1.pth.*'):
            if not path.name.startswith('.epoch_1.pth.old'):
                directories.remove_directory(path, path)
    store._session.abandon()
    again = open_store(resumed_from='epoch_1.pth')
    assert again.verify(again.find('epoch_1.pth')) is None
    assert (again.find('epoch_1.pth').digest == before) == (at == 'old without a name')


def test_the_index_is_rebuilt_from_directories_with_their_steps_and_bests(open_store, save_directory, said):
    store = open_store()
    for step, score in ((1, .5), (2, .4), (3, None)):
        save_directory(store, step, score)
    before = {r.name: (r.epoch, r.iter, r.digest, r.size) for r in store.records()}
    store.close('finished')
    (store.directory / INDEX_NAME).unlink()
    view = CheckpointStore.read(store.directory)
    assert {r.name: (r.epoch, r.iter, r.digest, r.size) for r in view.records()} == before
    assert find_checkpoint(store.directory, 'best:AP').path.name == 'best_AP_epoch_1.pth'
    _flip(store.directory / 'epoch_3.pth/rank0.pth')
    opened = open_store(resumed_from='epoch_2.pth')
    assert opened.find('epoch_3.pth') is None and 'epoch_3.pth is not taken into the index: rank0.pth' in said()


def test_a_bad_directory_is_set_aside_with_all_its_files(open_store, save_directory):
    store = open_store()
    save_directory(store, 1)
    store.set_aside(store.find('epoch_1.pth'))
    assert (store.directory / 'epoch_1.pth.corrupt/optimizer/rank0.pt').is_file() and not store.records()


def test_in_the_background_a_directory_is_made_durable_behind_what_came_before(open_store, save_directory, save):
    store = open_store(async_save=True, stage=Snapshot())
    save(store, 1)
    assert save_directory(store, 2, score=.1)
    store.wait()
    assert [r.name for r in store.records()] == ['epoch_1.pth', 'epoch_2.pth', 'best_AP_epoch_2.pth']
    assert store.verify(store.find('best_AP_epoch_2.pth')) is None


def test_a_directory_into_which_nothing_was_written_is_a_failed_save(open_store, said):
    store = open_store(max_failures=9)
    empty = store.stage_checkpoint('epoch_1.pth')
    empty.path.mkdir()
    for staged in (empty, store.stage_checkpoint('epoch_1.pth')):
        assert not store.write('epoch_1.pth', staged, progress=Progress(1, 10), roles=('periodic',))
    assert said().count('nothing was written') == 2 and not list(store.directory.glob('*epoch_1*'))


def test_what_a_rank_could_not_write_is_a_failed_save_like_any_other(open_store, save, said):
    store = open_store(max_failures=2)
    save(store, 1)
    for _ in range(2):
        staged = store.stage_checkpoint('epoch_2.pth')
        staged.path.mkdir()
        (staged.path / 'rank0.pth').write_bytes(b'half')
        failed = replace(staged, failure='rank 1: No space left on device')
        with pytest.raises(SaveError, match='rank 1: No space') if _ else nullcontext():
            assert not store.write('epoch_2.pth', failed, progress=Progress(2, 20), roles=('periodic',))
    assert 'rank 1: No space' in said() and not list(store.directory.glob('*epoch_2*'))
    assert store.latest_valid().name == 'epoch_1.pth'


def test_files_that_vanish_while_others_write_stop_nobody(open_store, said):
    """Their own temporary files have other names a moment later, for instance."""
    store = open_store(async_save=True, stage=Snapshot(), max_failures=9)
    staged = store.stage_checkpoint('epoch_1.pth')
    staged.path.mkdir()
    (staged.path / '.metadata.tmp').symlink_to('nothing')
    torch.save({'meta': {}}, staged.path / STATE)
    ready = replace(staged, ready=lambda: (staged.path / '.metadata.tmp').unlink())
    assert store.write('epoch_1.pth', ready, progress=Progress(1, 10), roles=('periodic',))
    store.wait()
    assert store.verify(store.find('epoch_1.pth')) is None


def test_a_link_to_a_directory_without_a_sound_manifest_costs_that_name_only(open_store, save_directory, said):
    store = open_store()
    save_directory(store, 1)
    (store.directory / 'epoch_1.pth' / MANIFEST).write_text('{')
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',))
    assert store.find('best_AP_epoch_1.pth') is None and 'is not a manifest' in said()


def test_a_file_that_others_wrote_is_a_checkpoint_like_any_other(open_store, state):
    store = open_store()
    staged = store.stage_checkpoint('epoch_1.pth')
    torch.save(state(1), staged.path)
    assert store.write('epoch_1.pth', staged, progress=Progress(1, 10), roles=('periodic',))
    record = store.find('epoch_1.pth')
    assert store.verify(record) is None and not record.is_directory


def test_the_commands_know_directories(open_store, save_directory, capfd):
    store = open_store()
    save_directory(store, 1, score=.5), save_directory(store, 2)
    store.close('finished')
    run = str(store.directory)
    assert main(['ls', run, '--verify']) == 0
    out = capfd.readouterr()
    assert '2 files under 3 names' in out.err + out.out
    assert main(['verify', run]) == 0 == main(['verify', f'{run}/epoch_1.pth']) == main(['verify', f'{run}@best:AP'])
    (store.directory / INDEX_NAME).unlink()
    assert main(['rebuild', run]) == 0 == main(['prune', run, '--keep-last', '1', '--keep-best', '1'])
    assert names(store.directory) == ['best_AP_epoch_1.pth', 'epoch_2.pth']
    _flip(store.directory / 'epoch_2.pth/rank1.pth')
    assert main(['verify', run]) == 1 and 'rank1.pth has the digest' in capfd.readouterr().out


def test_a_directory_is_no_file_for_those_who_load_files(open_store, save_directory):
    store = open_store()
    save_directory(store, 1)
    with pytest.raises(IncompatibleCheckpointError, match='only that strategy can load'):
        load_checkpoint(store.directory / 'epoch_1.pth')


def test_on_a_disk_that_is_nearly_full_a_directory_that_is_not_needed_goes_first(open_store, save_directory, said):
    class NearlyFull(LocalBackend):
        free = 1 << 30

        def free_bytes(self, directory):
            return self.free

    backend = NearlyFull()
    store = open_store(backend=backend, retention=KeepLast(2))
    for step in (1, 2):
        save_directory(store, step)
    backend.free = 1
    staged = store.stage_checkpoint('epoch_3.pth')
    assert names(store.directory) == ['epoch_2.pth'] and not staged.path.exists()
    assert 'epoch_3.pth needs about' in said()
