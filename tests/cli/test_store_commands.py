"""``mmckpt ls``, ``verify``, ``rebuild`` and ``prune`` on directories that a store or a stock Runner wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from mmckpt.cli.directory import read_directory
from mmckpt.cli.main import main
from mmckpt.cli.soundness import byte_faults
from mmckpt.policy.retention import KeepLast
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore
from mmckpt.store.index import INDEX_NAME

AP = {2: 0.3, 3: 0.5, 4: 0.4, 5: 0.6}

KILLED = """
import os, sys
from mmckpt.store import CheckpointStore
CheckpointStore(sys.argv[1]).open(resumed_from='epoch_5.pth')
print('open', flush=True)
sys.stdin.read()
os._exit(1)
"""


def train(directory, scores, resumed_from=None):
    """Write what a training leaves: a file a step, and a link for each best."""
    store = CheckpointStore(directory, pointer=directory / 'last_checkpoint')
    store.open(resumed_from=resumed_from)
    best = -1.0
    for step, score in scores.items():
        names = [f'epoch_{step}.pth']
        state = {'meta': {'epoch': step, 'iter': 10 * step}, 'mmckpt': {'version': 1},
                 'state_dict': {'weight': torch.full((1000,), float(step))}}
        store.write(names[0], state, progress=Progress(step, 10 * step), roles=('periodic',))
        if score > best:
            best = score
            names.append(f'best_AP_epoch_{step}.pth')
            store.link(names[0], names[1], roles=('best:AP',), scores={'AP': score})
        store.amend(names, metrics={'AP': score, 'loss': 1 / step})
    store.close('finished')


@pytest.fixture
def used(tmp_path):
    """Run 1 with one step, then run 2 with four, of which 2, 3 and 5 were the best."""
    train(tmp_path / 'run', {1: 0.9})
    train(tmp_path / 'run', AP)
    return tmp_path / 'run'


@pytest.fixture
def mmckpt(capsys):
    """Run a command in this process; return exit status, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.err
        return status, printed.out, printed.err

    return run


@pytest.fixture
def listed(mmckpt):
    """What ``ls --json`` says."""
    return lambda *arguments: json.loads(mmckpt('ls', *arguments, '--json')[1])


@pytest.fixture
def on_terminal(monkeypatch):
    """Run a command on a real terminal of some width; return the lines that it shows."""

    def run(columns, *arguments):
        controller, terminal = os.openpty()
        shown = []

        def read():
            try:
                while True:
                    shown.append(os.read(controller, 4096))
            except OSError:
                os.close(controller)

        reader = threading.Thread(target=read)
        reader.start()
        with monkeypatch.context() as patch, open(terminal, 'w', encoding='utf-8') as stream:
            patch.setenv('COLUMNS', str(columns))
            patch.setenv('TERM', 'xterm')
            patch.setattr(sys, 'stdout', stream)
            patch.setattr(sys, 'stderr', stream)
            main([*map(str, arguments)])
        reader.join()
        text = b''.join(shown).decode()
        return [re.sub(r'\x1b\[[?\d;]*[A-Za-z]', '', line).rstrip() for line in re.split(r'[\r\n]+', text)]

    return run


@pytest.fixture
def training(used):
    """Another process that trains into the directory."""
    process = subprocess.Popen([sys.executable, '-c', KILLED, str(used)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'open\n'
    yield process
    process.communicate()


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((4,), float(path.stem[-1])).numpy().tobytes()) + 999] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != '.mmckpt.lock'}


def disk_use(directory):
    return sum({s.st_ino: s.st_size for s in map(os.stat, directory.glob('*.pth'))}.values())


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
    shown = on_terminal(columns, 'ls', used)
    table = shown[:next(i for i, line in enumerate(shown) if line.startswith('mmckpt:'))]
    assert max(map(len, table)) <= columns
    for path in used.glob('*.pth'):
        assert sum(path.name in line.split() for line in table) == 1
    assert any(line.split()[-2:] == ['AP', 'loss'] for line in table)


def test_a_name_as_long_as_the_terminal_leaves_room_for_its_metric(on_terminal, used):
    os.rename(used / 'epoch_1.pth', used / f'{"x" * 90}.pth')
    train(used, {7: 0.7}, resumed_from='epoch_5.pth')
    (used / INDEX_NAME).unlink()
    assert max(map(len, on_terminal(80, 'ls', used))) < 110


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


# prune -----------------------------------------------------------------------

@pytest.mark.parametrize('options, gone', [
    (['--keep-last', 3], {'epoch_2.pth'}),
    (['--keep-best', 1], {'best_AP_epoch_2.pth', 'best_AP_epoch_3.pth'}),
    (['--keep-last', 1, '--keep-best', 2], {'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth', 'best_AP_epoch_2.pth'}),
    (['--keep-best', 1, '--rule', 'AP=less'], {'best_AP_epoch_3.pth'}),
    (['--keep-last', 9, '--keep-best', 9, '--all-runs'], set())])
def test_prune_drops_what_the_dry_run_shows(mmckpt, used, options, gone):
    before, names, use = content(used), {path.name for path in used.iterdir()}, disk_use(used)
    status, out, _ = mmckpt('prune', used, *options, '--dry-run')
    planned = {line.split()[line.split()[0] == '='] for line in out.splitlines() if ' goes' in line}
    assert (status, planned) == (0, gone)
    assert content(used) == before, 'a dry run changes nothing'
    status, out, _ = mmckpt('prune', used, *options)
    assert status == 0 and names - {path.name for path in used.iterdir()} == gone
    freed = use - disk_use(used)
    assert not gone or f'{f"{freed / 1e3:.1f} kB" if freed else "0 B"} freed' in out
    assert mmckpt('verify', used)[0] == 0
    assert CheckpointStore.read(used).latest_valid().name == 'epoch_5.pth'


def test_other_runs_are_pruned_only_when_asked(mmckpt, used):
    train(used, {6: 0.1, 7: 0.2})
    assert mmckpt('prune', used, '--keep-last', 1)[0] == 0
    assert {path.name for path in used.glob('epoch*')} == {f'epoch_{i}.pth' for i in (1, 2, 3, 4, 5, 7)}
    assert mmckpt('prune', used, '--keep-last', 1, '--all-runs')[0] == 0
    assert {path.name for path in used.glob('epoch*')} == {f'epoch_{i}.pth' for i in (1, 5, 7)}


def test_the_last_valid_file_of_a_kind_is_never_dropped(mmckpt, used):
    flip(used / 'epoch_5.pth')
    before = content(used)
    for options in (['--keep-last', 1], ['--keep-best', 1], ['--keep-last', 1, '--dry-run']):
        status, _, err = mmckpt('prune', used, *options)
        assert status == 2 and 'nothing was dropped' in err and 'its bytes have the digest' in err
        assert content(used) == before
    status, _, err = mmckpt('prune', used, '--keep-last', 2)
    assert status == 0 and 'epoch_5.pth stays, but is bad' in err
    assert {path.name for path in used.glob('epoch*')} == {f'epoch_{i}.pth' for i in (1, 4, 5)}


def test_files_of_stock_mmengine_and_bests_without_a_score_stay(mmckpt, used, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / 'stock')
    (used / INDEX_NAME).unlink()
    for directory in (run, used):
        status, _, err = mmckpt('prune', directory, '--keep-last', 1, '--keep-best', 1)
        assert status == 2 and f'mmckpt rebuild {directory}' in err
        _, _, err = mmckpt('rebuild', directory)
        assert ('is lost: metrics' in err) == (directory == used)
        assert mmckpt('prune', directory, '--keep-last', 1, '--keep-best', 1)[0] == 0
    assert {p.name for p in run.glob('*.pth')} == {p.name for p in trained.glob('*.pth')}
    assert len([*used.glob('best*')]) == 4 and [p.name for p in used.glob('epoch*')] == ['epoch_5.pth']


@pytest.mark.parametrize('options, said', [
    ([], '--keep-last N'), (['--keep-last', 1, '--rule', 'AP=less'], '--rule is for --keep-best'),
    (['--keep-best', 1, '--rule', 'loss=less'], "no checkpoint was kept as the best of 'loss'")])
def test_prune_asks_for_what_it_needs(mmckpt, used, options, said):
    status, _, err = mmckpt('prune', used, *options)
    assert status == 2 and said in err


@pytest.mark.parametrize('options', [['--keep-last', '0'], ['--keep-best', 'x'], ['--rule', 'AP'], ['--rule', '=less']])
def test_an_argument_out_of_range_is_a_usage_error(used, options, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['prune', str(used), *options])
    assert 'expected' in capsys.readouterr().err


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
