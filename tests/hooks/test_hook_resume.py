"""What a resume starts from, puts back, refuses and says."""

from __future__ import annotations

import shutil

import pytest
import torch
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from test_checkpoint_hook import load, metrics, names, ours, train
from toy_runner import Net, make_runner, read_log

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, IncompatibleCheckpointError

RNG = dict(type='mmckpt.RNGStateHook')


def resumed(work_dir, values, checkpoint=None, epochs=9, **kwargs):
    runner = make_runner(work_dir, values, checkpoint=checkpoint or ours(save_best='AP'), epochs=epochs, resume=True,
                         **kwargs)
    runner.train()
    return runner


def test_worse_epoch_after_a_resume_never_replaces_the_best(tmp_path):
    train(tmp_path, metrics('AP', .3, .8, .5), ours(save_best='AP'))
    runner = resumed(tmp_path, metrics('AP', .6, .7), epochs=5)
    assert runner.message_hub.get_info('best_score') == .8
    assert [n for n in names(tmp_path) if n.startswith('best')] == ['best_AP_epoch_2.pth']


def test_better_epoch_after_a_resume_replaces_the_best(tmp_path):
    train(tmp_path, metrics('AP', .3, .8, .5), ours(save_best='AP'))
    runner = resumed(tmp_path, metrics('AP', .6, .9), epochs=5)
    assert runner.message_hub.get_info('best_score') == .9
    assert [n for n in names(tmp_path) if n.startswith('best')] == ['best_AP_epoch_5.pth']


def test_resume_from_an_old_file_keeps_the_better_best_that_came_later(tmp_path):
    train(tmp_path, metrics('AP', .3, .4, .8), ours(save_best='AP'))
    runner = resumed(tmp_path, metrics('AP', .5, .6), load_from=str(tmp_path / 'epoch_1.pth'), epochs=3)
    assert runner.message_hub.get_info('best_score') == .8
    assert 'best_AP_epoch_3.pth' in names(tmp_path)


def test_results_of_the_last_validation_come_from_the_index(tmp_path):
    """The file of a step is written before its validation; what that changed is in the record."""
    train(tmp_path, metrics('AP', .3, .8), ours(save_best='AP'))
    assert 'best_score' in load(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']
    assert load(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']['best_score'] == .3
    runner = make_runner(tmp_path, metrics('AP', .1), checkpoint=ours(save_best='AP'), epochs=2, resume=True)
    runner.train()
    assert runner.message_hub.get_info('best_score') == .8
    assert runner.message_hub.get_scalar('val/AP').data[0].tolist() == [.3, .8]


def test_pending_validation_runs_before_training_goes_on(tmp_path):
    train(tmp_path, metrics('AP', .3, .8), ours(save_best='AP'))
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(tmp_path / 'epoch_2.pth', alone / 'epoch_2.pth')
    (alone / 'last_checkpoint').write_text(str(alone / 'epoch_2.pth'))
    runner = resumed(alone, metrics('AP', .75, .9), epochs=3)
    assert runner.message_hub.get_scalar('val/AP').data[0].tolist() == [.3, .75, .9]
    assert 'it runs first' in read_log(alone)


def test_early_stopping_in_a_pending_validation_ends_the_run_there(tmp_path):
    stop = dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=1, min_delta=0.)
    train(tmp_path, metrics('AP', .5, .6), ours(), hooks=[stop])
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(tmp_path / 'epoch_2.pth', alone / 'epoch_2.pth')
    runner = make_runner(alone, metrics('AP', .4), [stop], checkpoint=ours(), epochs=9, resume=True)
    runner.train()
    assert runner.epoch == 2


def test_banner_lists_what_was_restored(tmp_path):
    hooks = [RNG, dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=9)]
    train(tmp_path, metrics('AP', .3), ours(), hooks=hooks)
    resumed(tmp_path, metrics('AP', .5), hooks=hooks, epochs=2)
    log = read_log(tmp_path)
    for part in ('model weights', 'optimizer', 'message hub', 'random streams of 1 rank(s)',
                 'state of EarlyStoppingHook', 'results of the validation at this step'):
        assert f'restored  {part}' in log
    assert 'MISSING' not in log


def test_stock_checkpoint_resumes_and_the_banner_names_what_it_lacks(tmp_path):
    hooks = [RNG, dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=9)]
    train(tmp_path, metrics('AP', .3, .6), dict(type='CheckpointHook', interval=1, save_best='AP', rule='greater'))
    runner = resumed(tmp_path, metrics('AP', .5), hooks=hooks, epochs=3)
    log = read_log(tmp_path)
    assert 'written by MMEngine' in log
    assert 'MISSING   random streams' in log and 'MISSING   state of EarlyStoppingHook' in log
    assert runner.message_hub.get_info('best_score') == .6
    assert {'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'best_AP_epoch_2.pth'} <= set(names(tmp_path))


def test_state_of_an_unknown_hook_is_reported_not_fatal(tmp_path):
    stop = dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=9)
    train(tmp_path, metrics('AP', .3), ours(), hooks=[stop])
    resumed(tmp_path, metrics('AP', .5), epochs=2)
    assert "state of a hook 'EarlyStoppingHook' that this run does not have" in read_log(tmp_path)


class Counting(StockCheckpointHook.__mro__[1]):
    """A hook of a user, with state of its own."""

    def __init__(self):
        self.count = 0

    def after_train_iter(self, runner, **kwargs):
        self.count += 1

    def state_dict(self):
        return dict(count=self.count)

    def load_state_dict(self, state):
        self.count = state['count']


def test_any_hook_with_a_state_dict_joins(tmp_path):
    train(tmp_path, metrics('AP', .3), ours(), hooks=[dict(type=Counting)])
    runner = resumed(tmp_path, metrics('AP', .5), hooks=[dict(type=Counting)], epochs=2)
    assert next(h for h in runner.hooks if isinstance(h, Counting)).count == 6


def test_weights_only_load_from_with_resume_goes_on_with_the_run(tmp_path):
    train(tmp_path, metrics('AP', .3, .4), ours())
    pretrained = tmp_path / 'pretrained.pt'
    torch.save(dict(state_dict=Net().state_dict(), meta={}), pretrained)
    runner = resumed(tmp_path, metrics('AP', .5), load_from=str(pretrained), epochs=3)
    assert runner.epoch == 3 and runner.iter == 9
    assert 'goes on from epoch_2.pth' in read_log(tmp_path)


def test_resume_without_any_checkpoint_starts_from_scratch_and_says_so(tmp_path):
    runner = resumed(tmp_path, metrics('AP', .5), epochs=1)
    assert runner.epoch == 1 and 'holds no checkpoint: training starts from scratch' in read_log(tmp_path)


def test_damaged_newest_are_skipped_and_each_is_named(tmp_path):
    """MMEngine's handlers show one warning of a kind: of several damaged files only the first would be seen."""
    train(tmp_path, metrics('AP', .3, .4, .5), ours())
    for step in (2, 3):
        with open(tmp_path / f'epoch_{step}.pth', 'r+b') as file:
            file.truncate(1000 + step)
    runner = resumed(tmp_path, metrics('AP', .5, .6), epochs=3)
    assert runner.epoch == 3
    log = read_log(tmp_path)
    assert 'epoch_3.pth is skipped: it has 1003 bytes' in log and 'epoch_2.pth is skipped: it has 1002 bytes' in log
    assert f'Resumed from {tmp_path / "epoch_1.pth"}' in log


def test_resume_where_no_checkpoint_is_valid_is_an_error(tmp_path):
    train(tmp_path, metrics('AP', .3), ours())
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK\x03\x04 nothing')
    with pytest.raises(CheckpointNotFoundError, match='none of the 1 checkpoints'):
        resumed(tmp_path, metrics('AP', .5))
    assert (tmp_path / 'epoch_1.pth').exists()


def broken(path, how):
    whole = path.read_bytes()
    if how == 'truncated':
        path.write_bytes(whole[:len(whole) // 2])
    elif how == 'altered':
        path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    elif how == 'no checkpoint':
        path.write_bytes(b'hello, this is text')
    elif how == 'missing':
        path.unlink()
    elif how == 'directory':
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize('indexed', [True, False])
@pytest.mark.parametrize('how, error', [
    ('truncated', CorruptCheckpointError), ('altered', CorruptCheckpointError),
    ('no checkpoint', (IncompatibleCheckpointError, CorruptCheckpointError)), ('missing', CheckpointNotFoundError),
    ('directory', CheckpointNotFoundError)])
def test_a_bad_file_is_named_before_training(tmp_path, how, error, indexed):
    train(tmp_path, metrics('AP', .3), ours())
    path = tmp_path / 'epoch_1.pth'
    if not indexed:
        path = shutil.move(path, tmp_path / 'other.pth')
        path = tmp_path / 'other.pth'
        if how == 'altered':
            pytest.skip('without a digest an altered byte may go unseen')
    broken(path, how)
    with pytest.raises(error, match=path.name):
        resumed(tmp_path, metrics('AP', .5), load_from=str(path))


class Wider(Net):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 2)
        self.extra = torch.nn.Linear(2, 2)


def test_checkpoint_of_another_model_is_refused_with_the_differences(tmp_path):
    train(tmp_path, metrics('AP', .3), ours())
    with pytest.raises(IncompatibleCheckpointError) as caught:
        resumed(tmp_path, metrics('AP', .5), model=Wider())
    text = str(caught.value)
    assert 'extra.weight' in text and 'head.weight: (1, 4) in the file, (2, 4) in the model' in text


def test_a_bad_file_is_kept_for_a_look_if_wanted(tmp_path):
    train(tmp_path, metrics('AP', .3, .4), ours())
    whole = (tmp_path / 'epoch_2.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(whole[:1000])
    resumed(tmp_path, metrics('AP', .5), checkpoint=ours(store=dict(keep_corrupt=True)), epochs=2)
    assert (tmp_path / 'epoch_2.pth.corrupt').read_bytes() == whole[:1000]
    assert load(tmp_path / 'epoch_2.pth')['meta']['epoch'] == 2
