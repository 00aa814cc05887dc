"""``mmckpt train`` from and to a remote storage."""

import shutil
import uuid

import pytest
import torch


@pytest.fixture
def uploaded(command, stock, tmp_path):
    """URL of a run of 2 epochs whose work directory is gone."""
    url = f'memory://{uuid.uuid4().hex}'
    options = ['--safe', '--work-dir', tmp_path / 'run', '--cfg-options', f'default_hooks.checkpoint.out_dir={url}']
    assert command('train', stock, *options)[0] == 0
    shutil.rmtree(tmp_path / 'run')
    return url, options


def test_resume_brings_the_newest_checkpoint_here(command, stock, uploaded, tmp_path):
    status, out, err = command('train', stock, '--resume', *uploaded[1], 'train_cfg.max_epochs=3')
    assert status == 0 and 'Epoch(train) [3]' in out and 'Epoch(train) [2]' not in out, err
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file()


@pytest.mark.parametrize('asked, epoch', [('', 2), ('/epoch_1.pth', 1)])
def test_resume_from_takes_a_remote_file_or_directory(command, stock, uploaded, tmp_path, asked, epoch):
    status, out, err = command('train', stock, '--work-dir', tmp_path / 'new', '--resume-from',
                               f'{uploaded[0]}/run{asked}', '--cfg-options', 'train_cfg.max_epochs=3')
    assert status == 0 and f'Epoch(train) [{epoch + 1}]' in out and f'Epoch(train) [{epoch}]' not in out, err
    assert torch.load(tmp_path / 'new' / 'epoch_3.pth', weights_only=False)['meta']['epoch'] == 3


def test_a_remote_file_that_is_not_there_is_named_with_what_is(command, stock, uploaded, tmp_path):
    status, _, err = command('train', stock, '--work-dir', tmp_path / 'new', '--resume-from',
                             f'{uploaded[0]}/run/epoch_7.pth')
    assert status == 2 and 'has no checkpoint epoch_7.pth' in err and "'epoch_2.pth'" in err
