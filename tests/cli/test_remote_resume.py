"""``mmckpt train`` from and to a remote storage."""

import re
import shutil
import uuid

import fsspec
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


def test_a_dry_run_reads_the_structure_only_and_says_what_the_local_file_says(command, stock, uploaded, tmp_path,
                                                                             monkeypatch):
    url, options = uploaded
    monkeypatch.setattr('mmckpt.store.remote_outline._TAIL', 1 << 10)
    options = [*options, 'log_level=WARNING', 'optim_wrapper.optimizer.lr=1']
    status, out, err = command('train', stock, '--resume', '--resume-dry-run', *options)
    assert status == 0 and f'Resume preflight of {url}/run/epoch_2.pth (epoch 2, iter 8)' in out, err
    assert not (tmp_path / 'run').exists()
    said = re.search(r'reads ([\d.]+) kB of ([\d.]+) kB, all but the tensors', out + err)
    assert float(said[1]) < .9 * float(said[2])
    there = command('train', stock, '--resume-from', f'{url}/run', '--resume-dry-run', *options)
    assert there[0] == 0 and verdict(there[1]) == verdict(out)
    assert command('train', stock, '--resume', *options, 'train_cfg.max_epochs=2')[0] == 0
    local = command('train', stock, '--resume', '--resume-dry-run', *options)
    assert local[0] == 0 and verdict(local[1]) == verdict(out) and str(tmp_path / 'run') in local[1]


def verdict(out):
    """What a dry run printed, but for the name of the file."""
    return out[out.index('Resume preflight of'):].split('\n', 1)[1]


def test_a_dry_run_passes_over_what_did_not_arrive_whole(command, stock, uploaded):
    url, options = uploaded
    fs, root = fsspec.core.url_to_fs(f'{url}/run')
    fs.pipe_file(f'{root}/epoch_2.pth', b'rotten')
    status, out, _ = command('train', stock, '--resume', '--resume-dry-run', *options)
    assert status == 0 and 'run/best_acc_epoch_2.pth (epoch 2, iter 8)' in out
    for path in fs.glob(f'{root}/*.pth'):
        fs.pipe_file(path, b'rotten')
    status, _, err = command('train', stock, '--resume', '--resume-dry-run', *options)
    assert status == 2 and 'has the size that was written' in err
