from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_runner import make_runner, read_log

from mmckpt.hooks.early_stopping_hook import EarlyStoppingHook

OURS = dict(type='mmckpt.CheckpointHook', interval=1)


def stopping(**kwargs):
    defaults = dict(type='mmckpt.EarlyStoppingHook', monitor='PCK', min_delta=0.0, patience=2)
    return {**defaults, **kwargs}


def scores(*values, key='PCK'):
    return [{key: value} for value in values]


@pytest.mark.parametrize('values, kwargs, epochs', [
    ([.5, .4, .3, .9], {}, 3),
    ([.5, .4, .6, .5, .4, .9], {}, 5),
    ([.5, .5, .5, .5], {}, 4),  # as in MMEngine, with min_delta=0 a tie counts as an improvement
    ([.5, .55, .58, .9], dict(min_delta=0.1), 3),
    ([0.0, -.1, -.2, .9], {}, 3),  # 0.0 is a value
    ([.5, math.nan, .9, .9], {}, 2),
    ([.5, math.nan, math.nan, .9], dict(check_finite=False), 3),
    ([.5, math.nan, .6, math.nan], dict(check_finite=False), 4),
    ([.1, .2, .95, .1], dict(stopping_threshold=0.9), 3),
    ([torch.tensor(.5), np.float32(.4), torch.tensor([.3]), 1], {}, 3),
])
def test_training_ends_after_patience_validations_without_improvement(tmp_path, values, kwargs, epochs):
    runner = make_runner(tmp_path, scores(*values), [stopping(**kwargs)], epochs=len(values))
    runner.train()
    assert runner.epoch == epochs


@pytest.mark.parametrize('values, monitor, kwargs, epochs', [
    ([.5, .4, .3], 'PCK', dict(divergence_threshold=.35, patience=9), 3),
    # Improvements of 0.06 add up to more than 0.1, or they do not.
    ([.5, .56, .62, .68, .74], 'PCK', dict(min_delta=.1), 5),
    ([.5, .56, .62, .68, .74], 'PCK', dict(min_delta=.1, cumulative=False), 3),
    # A median of three takes no notice of one lucky validation.
    ([.5, .9, .5, .6, .7, .8], dict(metric='PCK', smooth=dict(type='median', n=3)), {}, 4),
    ([.9, .1, .2, .3], dict(metric='PCK', begin=2), {}, 4),
    ([.5, .4, .3, .2], [dict(metric='PCK', patience=3), dict(name='slow', expr='1 - PCK', rule='less', patience=2)],
     {}, 3),
])
def test_specs_end_the_training(tmp_path, values, monitor, kwargs, epochs):
    runner = make_runner(tmp_path, scores(*values), [stopping(monitor=monitor, **kwargs)], epochs=len(values))
    runner.train()
    assert runner.epoch == epochs


def test_patience_can_count_epochs(tmp_path):
    runner = make_runner(tmp_path, scores(.5, .4, .3), [stopping(by_epoch=True, patience=4)],
                         train_cfg=dict(by_epoch=True, max_epochs=12, val_interval=2))
    runner.train()
    assert runner.epoch == 6
    assert 'no improvement of PCK in 4/4 epochs (best 0.5000 at epoch 2, now 0.3000' in read_log(tmp_path)


def test_epochs_cannot_be_counted_where_there_are_none(tmp_path):
    runner = make_runner(tmp_path, scores(.5), [stopping(by_epoch=True)],
                         train_cfg=dict(by_epoch=False, max_iters=2, val_interval=2))
    with pytest.raises(ValueError, match='an iteration-based training does not have'):
        runner.train()


@pytest.mark.parametrize('split', [1, 2, 3])
def test_several_conditions_and_smoothing_survive_a_resume(tmp_path, split):
    values = [dict(PCK=p, loss=1.) for p in (.5, .9, .5, .6, .7, .8)]
    hooks = [stopping(monitor=[dict(metric='loss', patience=9), dict(
        metric='PCK', smooth=dict(type='median', n=3))])]
    make_runner(tmp_path, values, hooks, epochs=split, checkpoint=OURS).train()
    runner = make_runner(tmp_path, values[split:], hooks, epochs=6, checkpoint=OURS, resume=True)
    runner.train()
    assert runner.epoch == 4


def test_less_is_better_for_a_loss(tmp_path):
    runner = make_runner(tmp_path, scores(.5, .4, .45, .41, key='loss'), [stopping(monitor='loss')], epochs=6)
    runner.train()
    assert runner.epoch == 4


def test_iterations_stop_at_once(tmp_path):
    runner = make_runner(tmp_path, scores(.5, .4, .3, .2, .1), [stopping()],
                         train_cfg=dict(by_epoch=False, max_iters=20, val_interval=2))
    runner.train()
    assert runner.iter == 6
    assert '2/2 validations (best 0.5000 at iter 2, now 0.3000' in read_log(tmp_path)


def test_each_validation_without_improvement_prints_count_best_and_now(tmp_path):
    make_runner(tmp_path, scores(.5, .62, .6, .61), [stopping(patience=3)], epochs=4).train()
    log = read_log(tmp_path)
    assert 'no improvement of PCK in 1/3 validations (best 0.6200 at epoch 2, now 0.6000, min_delta=0)' in log
    assert 'no improvement of PCK in 2/3 validations (best 0.6200 at epoch 2, now 0.6100, min_delta=0)' in log
    assert log.count('no improvement') == 2


def test_the_log_says_that_and_why_training_ended(tmp_path):
    make_runner(tmp_path, scores(.5, .4, .3), [stopping()], epochs=3).train()
    assert 'Early stopping ends the training after epoch 3: the monitored metric did not improve' in \
        read_log(tmp_path)


@pytest.mark.parametrize('metrics, expected', [
    ({'pck@0.2': .5, 'AP': .1}, "does not give: 'PCK' is not among .* Did you mean 'pck@0.2'"),
    ({}, 'does not give: .* Available: none'),
    ({'PCK': None}, 'does not give: PCK is None in this validation'),
    ({'PCK': 'high'}, 'does not give: Expected a metric that is one number, but got str'),
    ({'PCK': torch.zeros(2)}, 'does not give: Expected a metric that is one number'),
])
def test_a_missing_metric_is_a_warning_or_with_strict_an_error(tmp_path, metrics, expected):
    runner = make_runner(tmp_path, [metrics], epochs=1)
    assert runner.train_loop is not None
    with pytest.warns(UserWarning, match=expected):
        EarlyStoppingHook('PCK').after_val_epoch(runner, metrics)
    with pytest.raises(RuntimeError, match=expected):
        EarlyStoppingHook('PCK', strict=True).after_val_epoch(runner, metrics)


def test_a_validation_without_the_metric_does_not_count(tmp_path):
    values = [{'PCK': .5}, {'AP': 1}, {'PCK': .4}, {'PCK': .3}, {'PCK': .2}]
    runner = make_runner(tmp_path, values, [stopping()], epochs=5)
    with pytest.warns(UserWarning, match='Nothing is counted'):
        runner.train()
    assert runner.epoch == 4


@pytest.mark.parametrize('split', [1, 2, 3])
def test_the_counter_survives_a_resume(tmp_path, split):
    values = scores(.5, .6, .55, .54, .53, .9)
    hooks = [stopping(patience=3)]
    make_runner(tmp_path, values, hooks, epochs=split, checkpoint=OURS).train()
    runner = make_runner(tmp_path, values[split:], hooks, epochs=6, checkpoint=OURS, resume=True)
    runner.train()
    assert runner.epoch == 5
    assert '3/3 validations (best 0.6000 at epoch 2, now 0.5300' in read_log(tmp_path)


@pytest.mark.parametrize('values, kwargs, raised, reason', [
    (scores(.5, .4, .3), {}, dict(patience=4), '2/2 validations'),
    (scores(.5, .95), dict(stopping_threshold=.9), dict(stopping_threshold=.99), 'stopping_threshold=0.9'),
    (scores(.5, math.nan), {}, dict(check_finite=False), 'PCK was nan'),
])
def test_a_stopped_run_stays_stopped_unless_the_limit_is_raised(tmp_path, values, kwargs, raised, reason):
    first = make_runner(tmp_path, values, [stopping(**kwargs)], epochs=6, checkpoint=OURS)
    first.train()
    again = make_runner(tmp_path, scores(1), [stopping(**kwargs)], epochs=6, checkpoint=OURS, resume=True)
    again.train()
    assert again.epoch == first.epoch == len(values)
    assert 'Early stopping had ended this run, and does so again' in read_log(tmp_path)
    assert reason in read_log(tmp_path).split('does so again')[1]
    on = make_runner(tmp_path, scores(.1), [stopping(**{**kwargs, **raised})], epochs=first.epoch + 1,
                     checkpoint=OURS, resume=True)
    on.train()
    assert on.epoch == first.epoch + 1


def test_another_metric_starts_to_count_anew(tmp_path):
    make_runner(tmp_path, scores(.5, .4), [stopping()], epochs=2, checkpoint=OURS).train()
    runner = make_runner(tmp_path, scores(3., 4., 5., key='EPE'), [stopping(monitor='EPE')], epochs=6,
                         checkpoint=OURS, resume=True)
    runner.train()
    assert runner.epoch == 5
    assert 'monitors EPE (less), in the checkpoint it was PCK (greater): it starts to count anew' in \
        read_log(tmp_path)


def test_state_is_plain_and_gives_the_same_next_answers(tmp_path):
    runner = make_runner(tmp_path, [])
    assert runner.train_loop is not None
    one, two = EarlyStoppingHook('PCK', min_delta=0.0), EarlyStoppingHook('PCK', min_delta=0.0)
    for value in (torch.tensor(.5), np.float32(.25)):
        one.after_val_epoch(runner, {'PCK': value})
    state = one.state_dict()
    assert {type(v) for v in state.values()} <= {int, float, str}
    two.load_state_dict(state)
    for value in (.4, .6, .5):
        one.after_val_epoch(runner, {'PCK': value})
        two.after_val_epoch(runner, {'PCK': value})
        assert one.state_dict() == two.state_dict()


def test_evaluating_alone_builds_no_training(tmp_path):
    runner = make_runner(tmp_path, scores(.5), [stopping()])
    runner.val()
    assert isinstance(runner._train_loop, dict)


@pytest.mark.parametrize('kwargs, expected', [
    (dict(monitor='recall'), 'Cannot infer the rule'),
    (dict(monitor='PCK', rule='more'), '"greater" or "less"'),
    (dict(monitor='PCK', patience=-1), 'patience must be at least 0'),
    (dict(monitor=[]), 'monitor is an empty list'),
    (dict(monitor=dict(metric='PCK', keep=3)), "no use for 'keep'"),
    (dict(monitor=dict(metric='PCK', patiense=3)), "Did you mean 'patience'"),
    (dict(monitor=dict(expr='PCK + AP')), "set rule='greater'"),
    (dict(monitor=dict(patience=3)), "needs metric='AP' or expr"),
])
def test_bad_arguments_are_refused_at_construction(kwargs, expected):
    with pytest.raises(ValueError, match=expected):
        EarlyStoppingHook(**kwargs)
