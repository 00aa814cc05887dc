"""``mmckpt prune`` on directories of a store and of a stock Runner."""

from __future__ import annotations

import shutil

import pytest
from store_runs import content, disk_use, flip, train

from mmckpt.cli.main import main
from mmckpt.store import CheckpointStore
from mmckpt.store.index import INDEX_NAME


@pytest.mark.parametrize('options, gone', [
    (['--keep-last', 3], {'epoch_2.pth'}),
    (['--keep-best', 1], {'best_AP_epoch_2.pth', 'best_AP_epoch_3.pth'}),
    (['--keep-last', 1, '--keep-best', 2],
     {'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth', 'best_AP_epoch_2.pth'}),
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


@pytest.mark.parametrize('options', [
    ['--keep-last', '0'], ['--keep-best', 'x'], ['--rule', 'AP'], ['--rule', '=less']])
def test_an_argument_out_of_range_is_a_usage_error(used, options, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['prune', str(used), *options])
    assert 'expected' in capsys.readouterr().err
