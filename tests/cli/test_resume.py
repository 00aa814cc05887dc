"""Which checkpoint a command takes, and what it says where it takes none."""

import shutil

import pytest
import torch
from mmengine.config import Config

from mmckpt.cli.resume import ResumePoint, existing_checkpoint, find_resume_point, resume_from, settled_load_from
from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.store import checks


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run, and its config."""
    work_dir = shutil.copytree(trained, tmp_path / 'run')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    return work_dir, Config(dict(work_dir=str(work_dir)))


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])


def test_auto_takes_the_newest(run):
    work_dir, cfg = run
    point = find_resume_point(cfg, 'auto')
    resume_from(cfg, point)
    assert point.path == str(work_dir / 'epoch_2.pth')
    assert cfg.resume is True and cfg.load_from is None


def test_auto_takes_the_one_before_a_truncated_newest(run):
    work_dir, cfg = run
    truncate(work_dir / 'epoch_2.pth')
    (work_dir / 'best_acc_epoch_2.pth').unlink(missing_ok=True)
    (work_dir / 'best_acc_epoch_1.pth').unlink(missing_ok=True)
    resume_from(cfg, find_resume_point(cfg, 'auto'))
    assert cfg.resume is True and cfg.load_from == str(work_dir / 'epoch_1.pth')


def test_auto_refuses_a_directory_of_damaged_checkpoints(run):
    work_dir, cfg = run
    for file in work_dir.glob('*.pth'):
        truncate(file)
    with pytest.raises(CorruptCheckpointError, match='none of them is valid'):
        find_resume_point(cfg, 'auto')


@pytest.mark.parametrize('load_from, start', [(None, 'scratch'), ('base.pth', 'the weights in base.pth')])
def test_auto_without_checkpoints_warns_and_starts_anew(tmp_path, capsys, load_from, start):
    cfg = Config(dict(work_dir=str(tmp_path), load_from=load_from))
    resume_from(cfg, find_resume_point(cfg, 'auto'))
    assert cfg.resume is False and cfg.load_from == load_from
    assert f'holds no checkpoint, training starts from {start}' in capsys.readouterr().err


def test_auto_looks_into_the_hooks_out_dir(run, tmp_path):
    work_dir, cfg = run
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', out_dir=str(tmp_path)))
    cfg.work_dir = str(tmp_path / 'elsewhere' / 'run')
    assert find_resume_point(cfg, 'auto').path == str(work_dir / 'epoch_2.pth')


def test_a_file_is_taken_as_it_is_asked_for(run):
    work_dir, cfg = run
    resume_from(cfg, find_resume_point(cfg, str(work_dir / 'epoch_1.pth')))
    assert cfg.resume is True and cfg.load_from == str(work_dir / 'epoch_1.pth')


def test_of_a_directory_the_newest_is_taken_and_named(run, capsys):
    work_dir, cfg = run
    cfg.work_dir = str(work_dir.parent / 'other')
    point = find_resume_point(cfg, str(work_dir))
    assert point.path == str(work_dir / 'epoch_2.pth')
    assert 'takes its newest valid checkpoint, epoch_2.pth' in capsys.readouterr().out


def test_a_missing_file_is_reported_with_what_is_there(run):
    work_dir, cfg = run
    with pytest.raises(CheckpointNotFoundError, match=r"epoch_3.pth does not exist.*Did you mean 'epoch_"):
        existing_checkpoint(str(work_dir / 'epoch_3.pth'), cfg.work_dir)
    with pytest.raises(CheckpointNotFoundError, match='epoch_1.pth'):
        existing_checkpoint('nowhere/epoch_3.pth', cfg.work_dir)


def test_a_directory_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match='is a directory without a checkpoint'):
        existing_checkpoint(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize('content, error', [
    (b'', CorruptCheckpointError), (b'# a text file', IncompatibleCheckpointError)])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, error):
    (tmp_path / 'epoch_1.pth').write_bytes(content)
    with pytest.raises(error):
        find_resume_point(Config(dict(work_dir=str(tmp_path))), str(tmp_path / 'epoch_1.pth'))


def test_a_truncated_file_that_is_asked_for_is_refused(run):
    work_dir, cfg = run
    truncate(work_dir / 'epoch_1.pth')
    with pytest.raises(CorruptCheckpointError, match='epoch_1.pth'):
        find_resume_point(cfg, str(work_dir / 'epoch_1.pth'))


def test_weights_only_are_refused_with_the_way_to_use_them(tmp_path):
    torch.save(dict(state_dict=dict(w=torch.ones(1))), tmp_path / 'weights.pth')
    with pytest.raises(IncompatibleCheckpointError, match=r"no message_hub.*load_from="):
        find_resume_point(Config(dict(work_dir=str(tmp_path))), str(tmp_path / 'weights.pth'))


def test_the_backends_of_mmengine_are_left_to_it(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    point = find_resume_point(cfg, 'https://example.org/epoch_1.pth')
    resume_from(cfg, point)
    assert point.seed is None and cfg.load_from == 'https://example.org/epoch_1.pth'


@pytest.mark.parametrize('configured, saved, expected', [
    (dict(), 7, 7), (dict(randomness=dict(seed=None, deterministic=True)), 7, 7),
    (dict(randomness=dict(seed=3)), 7, 3), (dict(randomness=dict(seed=0)), 7, 0),
    (dict(randomness=dict(seed=None)), None, None)])
def test_the_saved_seed_fills_a_seed_that_the_config_leaves_open(tmp_path, configured, saved, expected):
    cfg = Config(dict(work_dir=str(tmp_path), **configured))
    resume_from(cfg, ResumePoint('epoch_1.pth', saved))
    assert cfg.get('randomness', {}).get('seed') == expected


def test_the_seed_comes_from_the_file(run):
    work_dir, cfg = run
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['meta']['seed']
    assert find_resume_point(cfg, str(work_dir / 'epoch_1.pth')).seed == saved is not None


def test_what_a_checkpoint_is_stands_wherever_a_path_does(run, capsys):
    work_dir, cfg = run
    best = next(work_dir.glob('best_acc_*.pth'))
    assert find_resume_point(cfg, 'best:acc').path == str(best)
    assert existing_checkpoint(f'{work_dir}@epoch:1', 'elsewhere').name == 'epoch_1.pth'
    cfg.load_from = f'{work_dir}@best:acc'
    assert settled_load_from(cfg) == str(best)
    cfg.load_from = str(best)
    assert settled_load_from(cfg) == str(best)
    with pytest.raises(CheckpointNotFoundError, match="no best by 'ac'. Did you mean 'acc'"):
        find_resume_point(cfg, 'best:ac')
    assert f'best:acc is {best}' in capsys.readouterr().out


def test_a_last_that_was_not_kept_is_the_newest_best_and_is_named(run, capsys):
    work_dir, cfg = run
    for file in work_dir.glob('epoch_*.pth'):
        file.unlink()
    found = find_resume_point(cfg, 'last').path
    assert 'best_acc' in found
    assert 'last of' in (out := capsys.readouterr().out) and 'is not kept: takes best_acc' in out


@pytest.mark.parametrize('asked', [['--resume'], ['--resume-from', 'epoch_2.pth'], ['--resume-from', 'best:acc']])
def test_the_bytes_of_the_file_are_checked_once(command, stock, tmp_path, monkeypatch, asked):
    options = ['--safe', '--work-dir', tmp_path / 'run']
    assert command('train', stock, *options)[0] == 0
    if asked[-1].endswith('.pth'):
        asked = [asked[0], tmp_path / 'run' / asked[1]]
    read, digest = [], checks.file_digest
    monkeypatch.setattr(checks, 'file_digest', lambda path, *rest: (read.append(path.name), digest(path, *rest))[1])
    status, out, err = command('train', stock, *asked, *options, '--cfg-options', 'train_cfg.max_epochs=3')
    assert status == 0 and 'Epoch(train) [3]' in out, err
    assert len(read) == 1
