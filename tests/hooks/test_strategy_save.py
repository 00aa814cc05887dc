"""Where a strategy writes directories, a failed or skipped save costs that save and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from forked import on_two_ranks
from mmengine._strategy import SingleDeviceStrategy
from mmengine.dist import get_rank
from mmengine.registry import STRATEGIES
from mmengine.runner import FlexibleRunner
from toy_runner import make_runner, read_log

from mmckpt.errors import IncompatibleCheckpointError, SaveError
from mmckpt.hooks import CheckpointHook, strategy_save
from mmckpt.store.backend import LocalBackend


@STRATEGIES.register_module()
class FolderStrategy(SingleDeviceStrategy):
    """Writes a directory, as strategies with shards do."""

    def save_checkpoint(self, filename, *, extra_ckpt=None, callback=None, **kwargs):
        Path(filename).mkdir()
        callback(dict(extra_ckpt))
        torch.save(self.model_state_dict(), Path(filename, 'model.pth'))


def make_runner_of(work_dir, **store):
    return make_runner(work_dir, [{}] * 3, runner=FlexibleRunner, strategy=dict(type='FolderStrategy'),
                       checkpoint=dict(type='mmckpt.CheckpointHook', interval=1, save_last=False, store=store))


def test_a_disk_that_fails_before_the_strategy_writes_costs_that_save(tmp_path, monkeypatch):
    remove = LocalBackend.remove

    def failing(self, path):
        if path.name.startswith('.epoch_2.pth'):
            raise OSError(5, 'Input/output error')
        remove(self, path)

    monkeypatch.setattr(LocalBackend, 'remove', failing)
    make_runner_of(tmp_path).train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth', 'epoch_3.pth']
    assert 'Training goes on' in read_log(tmp_path)


def test_a_save_that_is_skipped_fails_nothing_and_touches_nothing(tmp_path, monkeypatch):
    """The save before may end while the ranks hear that this one is skipped."""
    sync, broadcast, skips = LocalBackend.sync_file, strategy_save.broadcast_object, []
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'epoch_2.pth').mkdir()

    def slow(self, path):
        time.sleep(.5 if 'epoch_1' in str(path) else 0)
        sync(self, path)

    def late(value):
        if value is None:
            skips.append(value)
            next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook)).store.join()
        return broadcast(value)

    monkeypatch.setattr(LocalBackend, 'sync_file', slow)
    monkeypatch.setattr(strategy_save, 'broadcast_object', late)
    runner = make_runner_of(tmp_path, async_save=True, on_busy='skip')
    runner.train()
    assert len(skips) == 1 and (tmp_path / 'epoch_2.pth').is_dir()
    log = read_log(tmp_path)
    assert 'epoch_2.pth is skipped' in log and 'could not be written' not in log


def test_weights_of_a_directory_are_refused_with_the_reason_where_files_are_read(tmp_path):
    make_runner_of(tmp_path).train()
    checkpoint = dict(type='mmckpt.CheckpointHook', interval=1)
    runner = make_runner(tmp_path / 'new', [{}], checkpoint=checkpoint, load_from=str(tmp_path / 'epoch_3.pth'))
    with pytest.raises(IncompatibleCheckpointError, match='only that strategy can load'):
        runner.train()


def test_a_load_that_failed_can_be_tried_again(tmp_path):
    runner = make_runner_of(tmp_path)
    runner._load_from = str(tmp_path / 'nothing.pth')
    with pytest.raises(FileNotFoundError):
        runner.train()
    calls, runner._load_from = [], None
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    prepare = hook.before_run
    hook.before_run = lambda runner: calls.append(prepare(runner))
    runner.train()
    assert len(calls) == 1


def test_ranks_that_do_not_see_one_directory_are_told_before_they_train(tmp_path):
    printed = on_two_ranks(train_on_disks_of_their_own, tmp_path)
    for rank in '01':
        assert f"rank {rank}: {tmp_path}/{rank} of rank 1 is not that of rank 0" in printed
    assert not list(tmp_path.glob('*/*.pth'))


def train_on_disks_of_their_own(folder):
    try:
        make_runner_of(folder / str(get_rank())).train()
    except SaveError as error:
        print(f'rank {get_rank()}: {error}')
