"""``mmckpt ls``, ``verify`` and ``rebuild`` on directories of a store and of a stock Runner."""

from __future__ import annotations

import os

import pytest
import torch
from store_runs import content, cut, disk_use, flip, rows_of

from mmckpt.cli.directory import read_directory
from mmckpt.cli.soundness import byte_faults
from mmckpt.policy.retention import KeepLast
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore
from mmckpt.store.index import INDEX_NAME

# ls --------------------------------------------------------------------------

def test_ls_shows_names_newest_first_with_counts_metrics_and_roles(mmckpt, used):
    status, out, err = mmckpt('ls', used)
    rows = [line.split() for line in out.splitlines() if '.pth' in line]
    assert (status, err) == (0, '')
    assert [row[0] if row[0] != '=' else ' '.join(row[:2]) for row in rows] == [
        'epoch_5.pth', '= best_AP_epoch_5.pth', 'epoch_4.pth', 'epoch_3.pth', '= best_AP_epoch_3.pth',
        'epoch_2.pth', '= best_AP_epoch_2.pth', 'epoch_1.pth', '= best_AP_epoch_1.pth']
    assert rows[0][1:3] == ['5', '50'] and rows[0][-4:] == ['ok', 'periodic', '0.6000', '0.2000']
    assert rows[1][2:] == ['ok', 'best', 'AP']
    assert out.index('run 2 (current)') < out.index('epoch_5.pth') < out.index('run 1,')


def test_links_of_one_file_count_once(listed, used):
    found = listed(used)
    same = {item['name']: item['same_file_as'] for item in found['checkpoints']}
    assert same['best_AP_epoch_5.pth'] == 'epoch_5.pth' and same['epoch_5.pth'] is None
    assert found['bytes_on_disk'] == disk_use(used) == sum(
        item['size'] for item in found['checkpoints'] if item['same_file_as'] is None)


@pytest.mark.parametrize('damage, arguments, bad', [
    (cut, [], True), (flip, [], False), (flip, ['--verify'], True), (os.unlink, [], True)])
def test_a_bad_file_is_named(mmckpt, listed, used, damage, arguments, bad):
    damage(used / 'epoch_4.pth')
    status, out, err = mmckpt('ls', used, *arguments)
    assert status == 0
    assert ('BAD' in out) == ('epoch_4.pth is bad: ' in err) == bad
    faults = [item['name'] for item in listed(used, *arguments)['checkpoints'] if item['fault']]
    assert faults == ['epoch_4.pth'] * bad


def test_a_directory_of_stock_mmengine_is_listed_and_left_as_it_is(mmckpt, listed, trained):
    before = {path.name for path in trained.iterdir()}
    status, out, _ = mmckpt('ls', trained)
    assert status == 0 and 'has no mmckpt_index.json' in out
    assert [item['name'] for item in listed(trained)['checkpoints'] if 'best' not in item['name']] == [
        'epoch_2.pth', 'epoch_1.pth']
    assert mmckpt('verify', trained)[0] == 0
    assert {path.name for path in trained.iterdir()} == before


def test_how_trainings_ended_is_told(listed, used, training):
    assert [a['why'] for a in listed(used)['attempts']] == ['finished', 'finished', 'running']
    training.communicate()
    assert [a['why'] for a in listed(used)['attempts']] == ['finished', 'finished', 'killed']


@pytest.mark.parametrize('command', ['ls', 'verify', 'rebuild', 'prune'])
@pytest.mark.parametrize('path, said', [('no', 'no does not exist'), ('empty', 'empty holds no checkpoints')])
def test_without_checkpoints_there_is_one_message_and_status_2(mmckpt, tmp_path, command, path, said):
    (tmp_path / 'empty').mkdir()
    options = ['--keep-last', 1] if command == 'prune' else []
    status, out, err = mmckpt(command, tmp_path / path, *options)
    assert (status, out) == (2, '') and said in err


@pytest.mark.parametrize('columns', [80, 120])
def test_a_terminal_gets_whole_names_in_its_width(on_terminal, used, columns):
    table = rows_of(on_terminal(columns, 'ls', used))
    assert max(map(len, table)) <= columns
    for path in used.glob('*.pth'):
        assert sum(path.name in line.split() for line in table) == 1
    assert any(line.split()[-2:] == ['AP', 'loss'] for line in table)


def test_a_long_name_is_broken_and_leaves_room_for_its_metric(on_terminal, tmp_path):
    name = f"best_{'pck_' * 20}epoch_3.pth"
    store = CheckpointStore(tmp_path)
    store.open()
    store.write(name, {}, progress=Progress(3, 30), roles=('best:PCK',), scores={'PCK': 0.8123})
    store.close('finished')
    table = rows_of(on_terminal(80, 'ls', tmp_path))
    assert max(map(len, table)) <= 80 and any(line.endswith(' 0.8123') for line in table)
    assert name in ''.join(line.split()[0] for line in table if line)


# verify ----------------------------------------------------------------------

@pytest.mark.parametrize('damage, name, reason', [
    (flip, 'epoch_4.pth', 'its bytes have the digest'), (cut, 'epoch_4.pth', 'bytes, but'),
    (os.unlink, 'best_AP_epoch_3.pth', 'the file is missing'),
    (lambda path: path.write_bytes(b'PK\x03\x04 no archive'), 'copied_in.pth', 'it cannot be read'),
    (lambda path: path.write_text('{}'), INDEX_NAME, 'mmckpt rebuild')])
def test_verify_fails_with_a_line_for_each_bad_file(mmckpt, used, damage, name, reason):
    assert mmckpt('verify', used)[0] == 0
    damage(used / name)
    status, out, _ = mmckpt('verify', used)
    bad = [line for line in out.splitlines() if line.startswith('BAD')]
    assert status == 1 and len(bad) == 1
    assert bad[0].startswith(f'BAD {used / name}: ') and reason in bad[0]


def test_a_damaged_file_is_bad_under_each_of_its_names(mmckpt, used):
    flip(used / 'epoch_5.pth')
    status, out, _ = mmckpt('verify', used)
    assert status == 1 and f'{used}/best_AP_epoch_5.pth: ' in out and '2 of 9' in out


@pytest.mark.parametrize('damage, status', [(None, 0), (flip, 1), (cut, 1)])
@pytest.mark.parametrize('indexed', [True, False])
def test_verify_of_one_file(mmckpt, used, damage, status, indexed):
    if not indexed:
        (used / INDEX_NAME).unlink()
    if damage is not None:
        damage(used / 'epoch_4.pth')
    assert mmckpt('verify', used / 'epoch_4.pth')[0] == status
    assert mmckpt('verify', used / 'epoch_3.pth')[0] == 0


@pytest.mark.parametrize('write, status', [
    (lambda path: torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=False), 0),
    (lambda path: path.write_text('no checkpoint'), 1), (lambda path: path.touch(), 1)])
def test_verify_of_a_file_that_no_index_knows(mmckpt, tmp_path, write, status):
    write(tmp_path / 'file.pth')
    assert mmckpt('verify', tmp_path / 'file.pth')[0] == status
    assert mmckpt('verify', tmp_path)[0] == status


def test_a_file_that_a_training_drops_meanwhile_is_not_called_bad(used):
    before = read_directory(used)
    store = CheckpointStore(used, retention=KeepLast(1))
    store.open(resumed_from='epoch_5.pth')
    assert [record.name for record in store.prune()] == ['epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth']
    store.close('finished')
    assert byte_faults(before) == {}


def test_the_progress_bar_is_for_terminals_only(on_terminal, mmckpt, used):
    assert any('epoch_5.pth' in line and '━' in line for line in on_terminal(80, 'verify', used))
    assert mmckpt('verify', used)[1:] == ('mmckpt: all 9 checkpoints verify\n', '')


# rebuild ---------------------------------------------------------------------

@pytest.mark.parametrize('text', ['', '{"version": 1', None])
def test_rebuild_makes_a_sound_index_and_keeps_the_broken_one(mmckpt, listed, used, text):
    (used / INDEX_NAME).unlink() if text is None else (used / INDEX_NAME).write_text(text)
    cut(used / 'epoch_4.pth')
    status, out, err = mmckpt('rebuild', used)
    assert status == 0 and 'has 8 checkpoints now' in out
    assert 'epoch_4.pth is not taken into the index' in err and 'is lost: metrics' in err
    broken = used / f'{INDEX_NAME}.broken'
    assert (broken.read_text() if broken.exists() else None) == text
    found = listed(used, '--verify')
    assert found['index'] == 'sound' and all(item['digest'] for item in found['checkpoints'])
    assert {item['run'] for item in found['checkpoints']} == {found['current_run']} == {1}
    assert CheckpointStore.read(used).latest_valid().name == 'epoch_5.pth'


def test_rebuild_leaves_a_sound_index_and_a_directory_without_valid_files_alone(mmckpt, used):
    before = content(used)
    assert mmckpt('rebuild', used)[0] == 0
    assert content(used) == before
    (used / INDEX_NAME).write_text('broken')
    for path in used.glob('*.pth'):
        path.write_bytes(b'PK\x03\x04')
    before = content(used)
    status, _, err = mmckpt('rebuild', used)
    assert status == 2 and 'nothing was changed' in err and content(used) == before


# While a training runs -------------------------------------------------------

def test_reading_needs_no_lock_and_changing_is_refused_while_a_training_runs(mmckpt, used, training):
    before = content(used)
    for command in (['ls'], ['verify'], ['prune', '--keep-last', 1, '--dry-run']):
        assert mmckpt(command[0], used, *command[1:])[0] == 0
    status, _, err = mmckpt('prune', used, '--keep-last', 1)
    assert status == 2 and f'process {training.pid} ' in err
    assert content(used) == before
    (used / INDEX_NAME).write_text('broken')
    status, _, err = mmckpt('rebuild', used)
    assert status == 2 and f'process {training.pid} ' in err
    assert (used / INDEX_NAME).read_text() == 'broken'
