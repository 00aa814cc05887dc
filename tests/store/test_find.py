"""Checkpoints are found by what they are, and the next best thing is named where they are not."""

from __future__ import annotations

import logging
import re
import shutil

import pytest
import torch

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore, find_checkpoint, split_spec

SILENT = logging.Logger('silent', logging.CRITICAL)


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    """Epochs 1 to 4; bests by AP are 3, 2, 4, by err 2; the newest is a best only."""
    directory = tmp_path_factory.mktemp('run')
    store = CheckpointStore(directory)
    store.open()
    bests = {2: dict(AP=.6, err=.1), 3: dict(AP=.8), 4: dict(AP=.5)}
    rules = dict(AP='greater', err='less')
    for epoch in (1, 2, 3, 4):
        scores = bests.get(epoch, {})
        if epoch < 4:
            store.write(f'epoch_{epoch}.pth', {'w': torch.full((4,), float(epoch))},
                        progress=Progress(epoch, 10 * epoch), roles=('periodic',))
            for metric, score in scores.items():
                store.link(f'epoch_{epoch}.pth', f'best_{metric}_{epoch}.pth', roles=(f'best:{metric}',),
                           scores={metric: score}, rules={metric: rules[metric]})
        else:
            store.write('best_AP_4.pth', {'w': torch.full((4,), 4.)}, progress=Progress(4, 40), roles=('best:AP',),
                        scores=scores, rules=dict(AP='greater'))
    store.close('finished')
    return directory


@pytest.fixture
def run(original, tmp_path):
    # Links must stay links, or spoiling one name would not spoil the others.
    shutil.copytree(original, tmp_path / 'run', copy_function=lambda a, b: shutil.copy2(a, b))
    return tmp_path / 'run'


@pytest.mark.parametrize('spec, name, note', [
    ('latest', 'best_AP_4.pth', ''),
    ('last', 'best_AP_4.pth', 'last of .* is not kept: takes best_AP_4.pth .*the best by AP'),
    ('best:AP', 'best_AP_3.pth', ''),
    ('top:AP:1', 'best_AP_3.pth', ''),
    ('top:AP:2', 'best_AP_2.pth', ''),
    ('top:AP:3', 'best_AP_4.pth', ''),
    ('best:err', 'best_err_2.pth', ''),
    ('epoch:2', 'epoch_2.pth', ''),
    ('iter:10', 'epoch_1.pth', ''),
])
def test_a_checkpoint_is_found_by_what_it_is(original, spec, name, note):

    found = find_checkpoint(original, spec, SILENT)
    assert found.path == original / name
    assert re.match(note, found.note) if note else found.note == ''


@pytest.mark.parametrize('spec, message', [
    ('best:ap', "no best by 'ap'. Did you mean 'AP'"),
    ('best', 'holds bests by 2 scores; name one'),
    ('top:AP:7', r'only 3 of the best by AP are kept; the nearest is top:AP:3 \(best_AP_4.pth\)'),
    ('epoch:9', r'the nearest are epoch:4 \(best_AP_4.pth\), epoch:3 \(epoch_3.pth\)'),
    ('iter:19', r'the nearest are iter:20 \(epoch_2.pth\), iter:10'),
])
def test_what_is_not_there_is_an_error_that_names_the_nearest(original, spec, message):
    with pytest.raises(CheckpointNotFoundError, match=message):
        find_checkpoint(original, spec, SILENT)


@pytest.mark.parametrize('spec, spoiled, name', [
    ('best:AP', ['best_AP_3.pth'], 'best_AP_2.pth'),
    ('latest', ['best_AP_4.pth'], 'epoch_3.pth'),
    ('epoch:2', ['epoch_2.pth'], 'best_err_2.pth'),
])
def test_the_nearest_valid_one_is_taken_and_named(run, spec, spoiled, name):
    for file in spoiled:
        (run / file).write_bytes((run / file).read_bytes()[:-3] + b'xyz')
    found = find_checkpoint(run, spec, SILENT)
    assert found.path.name == name
    if spec != 'epoch:2':
        assert f'is not valid ({spoiled[0]}: its bytes' in found.note and name in found.note


def test_none_valid_is_an_error(run):
    for file in run.glob('*_2.pth'):
        file.write_bytes(b'nothing')
    with pytest.raises(CorruptCheckpointError, match='epoch:2: no checkpoint .* is valid'):
        find_checkpoint(run, 'epoch:2', SILENT)


def test_an_empty_directory_and_a_wrong_spec_are_errors(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match='holds no checkpoint'):
        find_checkpoint(tmp_path, 'latest')
    with pytest.raises(ValueError, match='does not name a checkpoint: write one of latest'):
        find_checkpoint(tmp_path, 'newest')


def test_a_path_that_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'best:AP').touch()
    assert split_spec('best:AP', 'run') is None
    assert split_spec('best:PCK', None) is None
    assert str(split_spec('runs/a@b@top:PCK@0.1:2')[0]) == 'runs/a@b'
    assert split_spec('runs/a@epoch_3.pth') is None


def test_stock_files_are_found_too(tmp_path):
    for epoch in (1, 2):
        state = dict(meta=dict(epoch=epoch, iter=epoch), state_dict={}, message_hub={})
        torch.save(state, tmp_path / f'epoch_{epoch}.pth')
    assert find_checkpoint(tmp_path, 'epoch:1').path.name == 'epoch_1.pth'
    assert find_checkpoint(tmp_path, 'latest').path.name == 'epoch_2.pth'


def test_a_step_that_only_an_earlier_run_reached_is_said_to_be_another(open_store, save):
    store = open_store()
    save(store, 1)
    save(store, 2)
    store.close('finished')
    again = open_store()
    save(again, 1)
    again.close('finished')
    assert find_checkpoint(again.directory, 'epoch:1').note == ''
    found = find_checkpoint(again.directory, 'epoch:2')
    assert found.path.name == 'epoch_2.pth' and 'epoch:2' in found.note
