"""A run whose checkpoints are uploaded goes on from the storage, on a machine that has nothing."""

from __future__ import annotations

import os
import shutil
import uuid

import pytest
import torch
from forked import on_two_ranks
from mmengine.dist import get_rank
from test_checkpoint_hook import load, metrics, names, ours, train
from test_mirror import names_at
from toy_runner import make_runner, read_log

from mmckpt.errors import RemoteError
from mmckpt.hooks.remote_out_dir import RemoteOutDir
from mmckpt.store.backend import file_digest
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


@pytest.mark.skipif(not os.path.isdir('/proc/self/cwd'), reason='one path that is two directories needs /proc')
def test_each_node_gets_the_file_that_rank_0_resumes_from(tmp_path):
    """Two processes whose work directories have one path and are two disks; one of them holds an older run."""
    remote, nodes = f'file://{tmp_path}/remote', [tmp_path / 'node0', tmp_path / 'node1']
    train(tmp_path / 'gone' / 'run', metrics('AP', .3, .8), uploading(remote), hooks=[RNG, EARLY])
    train(nodes[1] / 'run', metrics('AP', .9, .1), ours(save_best='AP'))
    nodes[0].mkdir()
    on_two_ranks(resume_on_node, tmp_path)
    assert digest(nodes[0] / 'run') == digest(nodes[1] / 'run') == digest(tmp_path / 'gone' / 'run')
    ends = [load(node / 'end.pth') for node in nodes]
    assert ends[0]['epoch'] == ends[1]['epoch'] == 3 and ends[0]['best'] == ends[1]['best'] == .8
    assert ends[0]['hooks'] == ends[1]['hooks']
    for key, value in ends[0]['weights'].items():
        assert torch.equal(ends[1]['weights'][key], value)
    assert not (nodes[1] / 'run' / 'epoch_3.pth').exists(), 'rank 0 alone writes'


def digest(run):
    return file_digest(run / 'epoch_2.pth')


def resume_on_node(folder):
    """A rank, the only one of its node: goes on in the node's directory, and leaves there what it ended with."""
    os.environ['LOCAL_RANK'] = '0'
    os.chdir(folder / f'node{get_rank()}')
    runner = make_runner('/proc/self/cwd/run', metrics('AP', .5), [RNG, EARLY], epochs=3, launcher='pytorch',
                         checkpoint=uploading(f'file://{folder}/remote'), resume=True,
                         cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)))
    runner.train()
    hooks = [hook.state_dict() for hook in runner.hooks if type(hook).__name__ == 'EarlyStoppingHook']
    torch.save(dict(epoch=runner.epoch, best=runner.message_hub.get_info('best_score'), hooks=hooks,
                    weights=dict(runner.model.module.named_parameters())), 'end.pth')
