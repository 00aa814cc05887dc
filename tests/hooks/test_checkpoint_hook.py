"""Files, names, links, retention and records of the checkpoint hook, through a real Runner."""

from __future__ import annotations

import errno
import json
import math

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from mmengine.logging import HistoryBuffer
from toy_runner import make_runner, read_log

from mmckpt.errors import MetricNotFoundError
from mmckpt.hooks import CheckpointHook
from mmckpt.store import CheckpointStore


def ours(**kwargs):
    return dict(type='mmckpt.CheckpointHook', interval=1, **kwargs)


def metrics(key, *values):
    return [{key: value} for value in values]


def names(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def load(path):
    return torch.load(path, weights_only=True)


def train(work_dir, values, checkpoint, **kwargs):
    runner = make_runner(work_dir, values, checkpoint=checkpoint, epochs=kwargs.pop('epochs', len(values)), **kwargs)
    runner.train()
    return runner


# What a checkpoint holds --------------------------------------------------------


def test_file_has_what_stock_writes_and_one_key_more(tmp_path):
    scheduler = dict(param_scheduler=[dict(type='LinearLR', start_factor=.5, by_epoch=False, end=4)])
    train(tmp_path / 'ours', metrics('AP', .1, .2), ours(), **scheduler)
    train(tmp_path / 'stock', metrics('AP', .1, .2), dict(type='CheckpointHook', interval=1), **scheduler)
    mine, stock = load(tmp_path / 'ours/epoch_2.pth'), load(tmp_path / 'stock/epoch_2.pth')
    assert set(mine) - {'mmckpt'} == set(stock)
    assert set(mine['meta']) == {*stock['meta'], 'mmckpt_version'}
    assert set(mine['message_hub']) == set(stock['message_hub'])
    assert set(mine['message_hub']['log_scalars']) == set(stock['message_hub']['log_scalars'])
    for key in stock['state_dict']:
        assert torch.equal(mine['state_dict'][key], stock['state_dict'][key])
    assert mine['param_schedulers'] == stock['param_schedulers']
    assert mine['optimizer']['param_groups'] == stock['optimizer']['param_groups']


def test_stock_runner_resumes_from_our_file(tmp_path):
    train(tmp_path, metrics('AP', .1, .2), ours())
    runner = make_runner(tmp_path, metrics('AP', .3), epochs=3, resume=True)
    assert type(next(h for h in runner.hooks if isinstance(h, StockCheckpointHook))) is StockCheckpointHook
    runner.train()
    assert runner.epoch == 3 and 'resumed epoch: 2, iter: 6' in read_log(tmp_path)


# Bests -----------------------------------------------------------------------------


def test_bests_of_one_step_are_links_to_one_write(tmp_path):
    values = [dict(AP=.5, PCK=.6, acc=.7)]
    runner = make_runner(tmp_path, values, checkpoint=ours(save_best=['AP', 'PCK', 'acc']), epochs=1)
    hook = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
    written = []
    close = hook._close
    hook._close = lambda *args: (written.append(hook.store.bytes_written), close(*args))
    runner.train()
    files = [tmp_path / name for name in ('epoch_1.pth', 'best_AP_epoch_1.pth', 'best_PCK_epoch_1.pth',
                                          'best_acc_epoch_1.pth')]
    assert len({file.stat().st_ino for file in files}) == 1
    assert written == [files[0].stat().st_size]
    hub = runner.message_hub
    assert hub.get_info('best_score_PCK') == .6
    assert hub.get_info('best_ckpt_PCK') == str(tmp_path / 'best_PCK_epoch_1.pth')


def test_old_best_goes_when_the_new_one_is_there(tmp_path):
    train(tmp_path, metrics('coco/AP', .3, .5, .4), ours(save_best='coco/AP', max_keep_ckpts=1))
    assert names(tmp_path) == ['best_coco_AP_epoch_2.pth', 'epoch_3.pth']
    assert 'The best checkpoint with 0.5000 coco/AP at 2 epoch is saved to best_coco_AP_epoch_2.pth.' in read_log(
        tmp_path)


def test_best_off_the_interval_holds_the_whole_state_and_pushes_nothing_out(tmp_path):
    hook = {**ours(save_best='AP', max_keep_ckpts=2), 'interval': 3}
    train(tmp_path, metrics('AP', .1, .2, .3, .4, .1, .1, .1), hook)
    # Stock would have dropped epoch_3.pth for epoch_4.pth.
    assert names(tmp_path) == ['best_AP_epoch_4.pth', 'epoch_4.pth', 'epoch_6.pth', 'epoch_7.pth']
    best = load(tmp_path / 'best_AP_epoch_4.pth')
    assert {'optimizer', 'mmckpt'} <= set(best)
    assert best['message_hub']['runtime_info']['best_score'] == .4
    assert (tmp_path / 'epoch_4.pth').samefile(tmp_path / 'best_AP_epoch_4.pth')


def test_zero_is_a_score_and_nan_and_none_are_not(tmp_path):
    runner = train(tmp_path, metrics('AP', math.nan, 0.0, None, -1.0), ours(save_best='AP'))
    assert runner.message_hub.get_info('best_score') == 0.0
    assert 'best_AP_epoch_2.pth' in names(tmp_path)
    log = read_log(tmp_path)
    assert 'AP is nan in this validation' in log and 'AP is None in this validation' in log


def test_auto_takes_the_first_metric(tmp_path):
    train(tmp_path, [dict(PCK=.2, loss=3.), dict(PCK=.1, loss=2.)], ours(save_best='auto'))
    assert 'best_PCK_epoch_1.pth' in names(tmp_path)


def test_each_metric_has_its_own_best_and_rule(tmp_path):
    train(tmp_path, [dict(PCK=.2, loss=3.), dict(PCK=.1, loss=2.)], ours(save_best=['PCK', 'loss'], max_keep_ckpts=1))
    assert names(tmp_path) == ['best_PCK_epoch_1.pth', 'best_loss_epoch_2.pth', 'epoch_2.pth']


# Retention ---------------------------------------------------------------------------


def test_newest_are_kept_and_the_end_is_saved(tmp_path):
    train(tmp_path, metrics('AP', *[.1] * 8), {**ours(max_keep_ckpts=2), 'interval': 3})
    assert names(tmp_path) == ['epoch_6.pth', 'epoch_8.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_8.pth')
    assert 'freed' in read_log(tmp_path)


def test_keep_every_survives_max_keep_ckpts(tmp_path):
    train(tmp_path, metrics('AP', *[.1] * 7), ours(max_keep_ckpts=1, keep_every=3))
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_6.pth', 'epoch_7.pth']


def test_a_run_that_stops_early_leaves_its_last_state(tmp_path):
    stop = dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=1, min_delta=0.)
    train(tmp_path, metrics('AP', .5, .4, .3), {**ours(max_keep_ckpts=1), 'interval': 10}, hooks=[stop], epochs=10)
    assert names(tmp_path) == ['epoch_2.pth']


def test_a_fresh_run_in_a_used_directory_leaves_the_old_files(tmp_path):
    train(tmp_path, metrics('AP', .5, .6, .7), ours(save_best='AP'))
    runner = train(tmp_path, metrics('AP', .1), ours(save_best='AP', max_keep_ckpts=1))
    assert names(tmp_path) == [
        'best_AP_epoch_1.pth', 'best_AP_epoch_3.pth', 'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert runner.message_hub.get_info('best_score') == .1
    assert 'holds 4 checkpoints of an earlier run' in read_log(tmp_path)


def test_published_files_hold_the_wanted_keys_only(tmp_path):
    train(tmp_path, metrics('AP', .5), ours(save_best='AP', published_keys=['meta', 'state_dict']))
    published = list(tmp_path.glob('*-????????.pth'))
    assert len(published) == 2 and all(set(load(path)) == {'meta', 'state_dict'} for path in published)


# Failures -----------------------------------------------------------------------------


def test_a_full_disk_costs_the_save_and_nothing_else(tmp_path, monkeypatch):
    from mmckpt.store import committer

    real = committer.write_state

    def failing(state, file):
        if state['meta']['epoch'] == 2:
            file.write(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(state, file)

    monkeypatch.setattr(committer, 'write_state', failing)
    runner = train(tmp_path, metrics('AP', .5, .6, .4), ours(save_best='AP', max_keep_ckpts=1))
    assert runner.epoch == 3
    # The best of epoch 2 could not be written either, so that of epoch 1 is still there.
    assert names(tmp_path) == ['best_AP_epoch_1.pth', 'epoch_3.pth']
    assert not list(tmp_path.glob('.*.tmp'))
    assert 'No space left on device' in read_log(tmp_path)
    view = CheckpointStore.read(tmp_path)
    assert all(view.verify(record) is None for record in view.records())


@pytest.mark.parametrize('error', [RuntimeError('planted'), KeyboardInterrupt(), SystemExit(3)])
def test_the_index_says_how_an_attempt_ended(tmp_path, error):
    runner = make_runner(tmp_path, metrics('AP', .5, .6), checkpoint=ours())
    calls = []

    class Fail(StockCheckpointHook.__mro__[1]):
        def after_train_iter(self, runner, **kwargs):
            calls.append(1)
            if len(calls) == 4:
                raise error

    runner.register_hook(Fail())
    with pytest.raises(type(error)):
        runner.train()
    index = json.loads((tmp_path / 'mmckpt_index.json').read_text())
    assert [a['why'] for a in index['attempts']] == ['exception' if isinstance(error, RuntimeError) else 'signal']
    assert CheckpointStore.read(tmp_path).latest_valid().name == 'epoch_1.pth'


def test_save_on_exception_keeps_the_updates_made_so_far_and_says_that_it_is_not_exact(tmp_path):
    runner = make_runner(tmp_path, metrics('AP', .5, .6), checkpoint=ours(save_best='AP', save_on_exception=True))
    forward, calls = runner.model.forward, []

    def failing(*args, mode='tensor', **kwargs):
        calls.extend([1] if mode == 'loss' else [])
        if len(calls) == 6:
            raise RuntimeError('planted')
        return forward(*args, mode=mode, **kwargs)

    runner.model.forward = failing
    with pytest.raises(RuntimeError, match='planted'):
        runner.train()
    assert names(tmp_path) == ['best_AP_epoch_1.pth', 'epoch_1.pth', 'exception_iter_5.pth']
    resumed = make_runner(tmp_path, metrics('AP', .6, .7), checkpoint=ours(save_best='AP'), resume=True)
    resumed.train()
    assert 'INEXACT   it was made when training ended by RuntimeError: planted' in read_log(tmp_path)
    assert 'exception_iter_5.pth' not in names(tmp_path)


def test_history_of_scalars_is_bounded_in_memory_and_in_the_file(tmp_path):
    hook = dict(type='mmckpt.CheckpointHook', interval=1, history=7)
    runner = make_runner(tmp_path, metrics('AP', *[.5] * 40), checkpoint=hook, epochs=40)
    runner.train()
    assert all(len(buffer.data[0]) <= 107 for buffer in runner.message_hub.log_scalars.values())
    for buffer in load(tmp_path / 'epoch_40.pth')['message_hub']['log_scalars'].values():
        assert len(buffer.data[0]) <= 7


def test_a_checkpoint_after_a_million_iterations_is_as_small_as_after_a_thousand(tmp_path):
    sizes = []
    for iterations in (1_000, 1_000_000):
        runner = make_runner(tmp_path / str(iterations), metrics('AP', .5), checkpoint=ours(), epochs=1)
        for i in range(8):
            # What stock's hub holds by then; to log a million values one by one would take it an hour.
            runner.message_hub.log_scalars[f'train/loss_{i}'] = HistoryBuffer(
                np.random.default_rng(i).random(iterations), np.ones(iterations), max_length=iterations)
        runner.train()
        assert all(len(buffer.data[0]) <= 1100 for buffer in runner.message_hub.log_scalars.values())
        sizes.append((tmp_path / str(iterations) / 'epoch_1.pth').stat().st_size)
    assert sizes[1] - sizes[0] <= 500_000


# Bad input ------------------------------------------------------------------------------


def test_unknown_metric_lists_those_that_exist(tmp_path):
    runner = make_runner(tmp_path, [{'coco/AP': .5, 'coco/AR': .6}], checkpoint=ours(save_best='AP'), epochs=1)
    with pytest.raises(MetricNotFoundError, match="Did you mean 'coco/AP'.*Available: 'coco/AP', 'coco/AR'"):
        runner.train()
    assert names(tmp_path) == ['epoch_1.pth']


def test_a_metric_that_disappears_is_said_and_costs_nothing(tmp_path):
    train(tmp_path, [dict(AP=.5), dict(AR=.6), dict(AP=.7)], ours(save_best='AP'))
    assert 'It was there before' in read_log(tmp_path)
    assert 'best_AP_epoch_3.pth' in names(tmp_path)


def test_save_best_without_validation_is_said(tmp_path):
    runner = make_runner(tmp_path, [], checkpoint=ours(save_best='AP'), epochs=1)
    runner._val_loop = None
    runner.train()
    assert "save_best=['AP'] has nothing to judge" in read_log(tmp_path)
    assert names(tmp_path) == ['epoch_1.pth']


@pytest.mark.parametrize('kwargs, error, message', [
    (dict(max_keep_ckpts=0), ValueError, 'max_keep_ckpts must be -1'),
    (dict(max_keep_ckpts=-3), ValueError, 'max_keep_ckpts must be -1'),
    (dict(keep_every=0), ValueError, 'keep_every must be -1'),
    (dict(keep_every='3'), ValueError, "keep_every must be -1 .* got '3'"),
    (dict(history=True), ValueError, 'history must be at least 1 value, but got True'),
    (dict(max_keep_ckpts=2.5), ValueError, 'max_keep_ckpts must be -1'),
    (dict(save_best='AP', rule='grater'), KeyError, "Did you mean 'greater'"),
    (dict(save_best='recall'), ValueError, 'Cannot infer the rule'),
    (dict(max_keep_ckpt=3), ValueError, "Did you mean 'max_keep_ckpts'"),
    (dict(store=dict(async_safe=True)), ValueError, "Did you mean 'async_save'"),
    (dict(store=dict(on_busy='drop')), ValueError, 'on_busy'),
    (dict(save_best=dict(acc='acc')), AssertionError, '"save_best" should be'),
])
def test_arguments_are_checked_at_construction(kwargs, error, message):
    with pytest.raises(error, match=message):
        CheckpointHook(**kwargs)


def test_a_run_that_will_fill_the_disk_is_told_before_it_starts(tmp_path, monkeypatch):
    from mmckpt.store.backend import LocalBackend

    monkeypatch.setattr(LocalBackend, 'free_bytes', lambda self, path: 150_000)
    train(tmp_path, metrics('AP', .5), ours(save_best='AP', max_keep_ckpts=3))
    log = read_log(tmp_path)
    assert 'This run will fill the disk: 4 checkpoints of' in log
    assert log.index('will fill the disk') < log.index('Saving checkpoint at 1 epochs')
