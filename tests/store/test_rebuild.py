"""The index is rebuilt from the files when it is lost or broken."""

from __future__ import annotations

import pytest
import torch

from mmckpt.store import CheckpointStore
from mmckpt.store.index import INDEX_NAME


@pytest.fixture
def used(open_store, save):
    """A directory with four files of ours, one of them linked as best, and a closed store."""
    store = open_store()
    for step in (1, 2, 10):
        save(store, step)
    store.link('epoch_2.pth', 'best_AP_epoch_2.pth', roles=('best:AP',), scores={'AP': 0.5})
    store.close('finished')
    return store.directory


@pytest.fixture(params=['lost', 'empty', 'half', 'altered'])
def damage(request, used):
    index = used / INDEX_NAME
    text = index.read_text()
    if request.param == 'lost':
        index.unlink()
    else:
        index.write_text({'empty': '', 'half': text[:len(text) // 2],
                          'altered': text.replace('"epoch": 10', '"epoch": 11')}[request.param])
    return request.param


def test_readers_find_the_files_without_touching_anything(used, damage):
    before = {path.name: path.read_bytes() for path in used.iterdir()}
    view = CheckpointStore.read(used)
    assert [(r.name, r.epoch, r.iter, r.roles) for r in view.records()] == [
        ('epoch_1.pth', 1, 10, ('periodic',)), ('best_AP_epoch_2.pth', 2, 20, ('best:AP',)),
        ('epoch_2.pth', 2, 20, ('periodic',)), ('epoch_10.pth', 10, 100, ('periodic',))]
    assert view.latest_valid().name == 'epoch_10.pth'
    assert {path.name: path.read_bytes() for path in used.iterdir()} == before


@pytest.mark.parametrize('notes', [3, [1], [{'name': 'epoch_1.pth'}], [
    dict(name='epoch_1.pth', epoch=1, iter=10, roles=['best:AP'], scores={'AP': 'x'}, rules={}, metrics={})]])
def test_a_file_with_senseless_notes_does_not_keep_the_index_from_being_made(used, state, notes):
    (used / INDEX_NAME).unlink()
    torch.save({**state(1), 'mmckpt': {'bests': notes}}, used / 'epoch_1.pth')
    assert CheckpointStore.read(used).find('epoch_1.pth').roles == ('periodic',)


def test_a_rotten_file_is_found_without_its_digest(used, damage, said):
    data = bytearray((used / 'epoch_10.pth').read_bytes())
    data[data.index(torch.full((4,), 10.0).numpy().tobytes()) + 999] ^= 1
    (used / 'epoch_10.pth').write_bytes(data)
    assert CheckpointStore.read(used).latest_valid().name == 'epoch_2.pth'
    assert 'epoch_10.pth is skipped: its part' in said()


def test_training_writes_the_index_anew_with_digests(used, damage, open_store, save, said):
    store = open_store(resumed_from='epoch_10.pth')
    if damage != 'lost':
        assert 'is broken' in said() and 'rebuilt from the files' in said()
    assert len(store.records_of_run()) == 4
    assert all(record.digest and store.verify(record) is None for record in store.records())
    assert save(store, 11)
    assert CheckpointStore.read(used).latest_valid().name == 'epoch_11.pth'


def test_a_damaged_file_gets_no_digest_that_blesses_it(used, open_store, said):
    (used / INDEX_NAME).unlink()
    data = (used / 'epoch_10.pth').read_bytes()
    (used / 'epoch_10.pth').write_bytes(data[:-50])
    store = open_store(resumed_from='epoch_2.pth')
    assert store.find('epoch_10.pth') is None and (used / 'epoch_10.pth').exists()
    assert 'epoch_10.pth is not taken into the index' in said()


def test_files_of_stock_mmengine_are_foreign_and_other_files_are_not_taken(tmp_path):
    torch.save({'meta': {'epoch': 3, 'iter': 7}, 'state_dict': {}}, tmp_path / 'epoch_3.pth')
    torch.save({'state_dict': {}}, tmp_path / 'weights.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    (tmp_path / 'epoch_9.pt').write_text('another suffix')
    (tmp_path / 'link.pth').symlink_to(tmp_path / 'epoch_3.pth')
    view = CheckpointStore.read(tmp_path)
    found = [(r.name, r.epoch, r.iter, r.roles) for r in view.records()]
    assert found == [('epoch_3.pth', 3, 7, ('foreign',))]
    assert view.latest_valid().name == 'epoch_3.pth'


def test_a_validation_that_was_pending_is_still_pending(used, open_store, state):
    torch.save({**state(12), 'mmckpt': {'val_pending': True}}, used / 'epoch_12.pth')
    (used / INDEX_NAME).unlink()
    assert CheckpointStore.read(used).find('epoch_12.pth').val_pending
