"""A run whose checkpoints are uploaded goes on from the storage, on a machine that has nothing."""

from __future__ import annotations

import shutil
import uuid

import pytest
import torch
from test_checkpoint_hook import load, metrics, names, ours, train
from test_mirror import names_at
from toy_runner import make_runner, read_log

from mmckpt.errors import RemoteError
from mmckpt.hooks.remote_out_dir import RemoteOutDir
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.remote import RemoteDirectory

RNG = dict(type='mmckpt.RNGStateHook')
EARLY = dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=9, rule='greater')
AP = (.3, .8, .5, .6)


def uploading(url):
    return ours(save_best='AP', max_keep_ckpts=2, out_dir=url)


@pytest.fixture
def url():
    return f'memory://{uuid.uuid4().hex}'


def test_resume_without_local_files_is_the_run_that_was_never_stopped(url, tmp_path):
    straight, moved = tmp_path / 'straight' / 'run', tmp_path / 'moved' / 'run'
    train(straight, metrics('AP', *AP), ours(save_best='AP', max_keep_ckpts=2), hooks=[RNG, EARLY])
    train(moved, metrics('AP', *AP[:2]), uploading(url), hooks=[RNG, EARLY])
    shutil.rmtree(moved)
    runner = make_runner(moved, metrics('AP', *AP[2:]), [RNG, EARLY], epochs=4, checkpoint=uploading(url), resume=True)
    runner.train()
    assert 'Downloaded epoch_2.pth' in read_log(moved) and 'resumed epoch: 2, iter: 6' in read_log(moved)
    expected, found = load(straight / 'epoch_4.pth'), load(moved / 'epoch_4.pth')
    for key, value in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][key], value)
    assert found['mmckpt']['hooks'] == expected['mmckpt']['hooks']
    assert runner.message_hub.get_info('best_score') == .8
    assert names_at(f'{url}/run') == ['best_AP_epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth', INDEX_NAME]


def test_files_lie_in_the_work_directory_too(url, tmp_path):
    train(tmp_path / 'run', metrics('AP', .3), uploading(url))
    assert names(tmp_path / 'run') == ['best_AP_epoch_1.pth', 'epoch_1.pth']
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(tmp_path / 'run' / 'epoch_1.pth')
    assert f'uploaded to {url}/run' in read_log(tmp_path / 'run')


def test_what_an_earlier_process_did_not_upload_is_made_up(url, tmp_path):
    train(tmp_path / 'run', metrics('AP', .3, .4), ours())
    make_runner(tmp_path / 'run', metrics('AP', .5), epochs=3, checkpoint=ours(out_dir=url), resume=True).train()
    assert names_at(f'{url}/run') == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', INDEX_NAME]
    assert [a.why for a in RemoteDirectory(f'{url}/run').read_index().attempts] == ['finished', 'finished']


def test_a_storage_that_nobody_can_reach_is_refused_before_training(tmp_path):
    runner = make_runner(tmp_path, metrics('AP', .3), epochs=1, checkpoint=ours(out_dir='nowhere://bucket'))
    with pytest.raises(RemoteError, match='nowhere://bucket'):
        runner.train()


@pytest.mark.parametrize('out_dir, backend_args, ours', [
    ('s3://bucket/runs', None, True), ('s3://bucket/runs', dict(backend='petrel'), False),
    ('petrel://bucket', None, False), ('/data/runs', None, False), (None, None, False)])
def test_backends_of_mmengine_stay_with_mmengine(out_dir, backend_args, ours):
    assert (RemoteOutDir.of(out_dir, 'work_dirs/run', backend_args) is not None) == ours
