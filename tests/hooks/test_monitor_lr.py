"""The monitor tells a planned rise of the learning rate from any other, and sees whether weights move."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from monitored_runs import make_runner

from mmckpt.hooks import TrainingMonitorHook
from mmckpt.hooks.monitor_lr import LearningRateWatch
from mmckpt.hooks.monitor_weights import WeightWatch
from mmckpt.monitor import TrainingMonitor

RESTARTS = dict(type='CosineRestartLR', periods=[10, 10, 10], restart_weights=[1, .5, 1], eta_min=1e-4, by_epoch=False)


class Raises(Hook):
    """Raises the learning rate before an iteration, as no schedule would."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 15:
            runner.optim_wrapper.param_groups[0]['lr'] *= 100


@pytest.fixture
def told(monkeypatch):
    """Iterations after which the monitor was told of a planned rise."""
    seen, expect = [], TrainingMonitor.expect_rise

    def spy(self, progress):
        seen.append(progress.iter)
        expect(self, progress)

    monkeypatch.setattr(TrainingMonitor, 'expect_rise', spy)
    return seen


@pytest.mark.parametrize('schedule, hooks, rises', [
    ([RESTARTS], [], [10, 20]),
    ([dict(type='MultiStepLR', milestones=[1, 2], gamma=10., by_epoch=True)], [], [10, 20]),
    ([dict(type='CosineAnnealingLR', T_max=30, by_epoch=False)], [Raises()], []),
    # What it raises is still above what the second restart gives.
    ([RESTARTS], [Raises()], [10]),
    (None, [Raises()], []),
], ids=['restarts', 'by epoch', 'a hook', 'both', 'no schedule'])
def test_a_rise_is_planned_where_the_schedule_makes_it(schedule, hooks, rises, tmp_path, told):
    hook = TrainingMonitorHook(report=False, on_spike='skip')
    make_runner(tmp_path, hook, *hooks, validate=False, param_scheduler=schedule).train()
    assert told == rises and hook.failures == 0
    # The one that acts judges spikes by itself.
    assert hook._reactions.spike._expected_until == (rises[-1] + 100 if rises else 0)


def test_a_learning_rate_in_a_tensor_is_not_read():
    model = torch.nn.Linear(2, 2)
    wrapper = OptimWrapper(torch.optim.Adam(model.parameters(), lr=torch.tensor(.1)))
    watch = LearningRateWatch(SimpleNamespace(optim_wrapper=wrapper))
    wrapper.param_groups[0]['lr'] = torch.tensor(9.)
    assert not watch.has_jumped(SimpleNamespace(param_schedulers=[]))


def weights(model, load_from=None, resume=False):
    return WeightWatch(SimpleNamespace(model=model, _load_from=load_from, _resume=resume))


def test_the_change_of_the_weights_is_a_share_of_their_norm_and_leaves_out_frozen_ones():
    model = torch.nn.Sequential(torch.nn.Linear(300, 5), torch.nn.Linear(5, 3))
    watch = weights(model)
    assert watch.look() == {'#pretrained': 0.0, '#weight_change': 0.0}
    with torch.no_grad():
        for parameter in model[1].parameters():
            parameter *= 1.01
    assert 0 < watch.look()['#weight_change'] < 0.01
    model[0].requires_grad_(False)
    assert watch.look()['#weight_change'] == pytest.approx(0.01, rel=1e-4)
    model.requires_grad_(False)
    assert watch.look()['#weight_change'] == 0.0


def test_parameters_without_plain_numbers_are_passed_over():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LazyLinear(2))
    model.phase = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    model.none = torch.nn.Parameter(torch.ones(0))
    watch = weights(model)
    with torch.no_grad():
        model[0].weight += 1
    assert watch.look()['#weight_change'] > 0.5


@pytest.mark.parametrize('arguments, init_cfg, pretrained', [
    (dict(), None, 0.), (dict(load_from='a.pth'), None, 1.), (dict(load_from='epoch_1.pth', resume=True), None, 0.),
    (dict(), dict(type='Pretrained', checkpoint='a.pth'), 1.), (dict(), dict(type='Normal'), 0.),
    (dict(), [dict(type='Normal')], 0.)])
def test_weights_that_were_trained_before_are_known(arguments, init_cfg, pretrained):
    model = torch.nn.Linear(2, 2)
    model.init_cfg = init_cfg
    assert weights(model, **arguments).look()['#pretrained'] == pretrained


def test_a_fine_tuning_that_does_not_train_is_found_and_one_that_does_is_not(tmp_path):
    make_runner(tmp_path / 'first', validate=False, epochs=12, checkpoint=dict(type='CheckpointHook')).train()
    found = {}
    for lr in (1e-3, 1e-9):
        hook = TrainingMonitorHook(report=False)
        runner = make_runner(tmp_path / str(lr), hook, validate=False, epochs=12,
                             load_from=str(tmp_path / 'first/epoch_12.pth'))
        runner.optim_wrapper['optimizer']['lr'] = lr
        runner.train()
        found[lr] = [event['message'] for event in hook._monitor.summary()['events'] if event['severity'] != 'info']
    assert found[1e-3] == [] and len(found[1e-9]) == 1
    assert found[1e-9][0].startswith('No progress') and 'The weights have not moved (by ' in found[1e-9][0]


def test_a_rise_right_after_the_iteration_of_a_checkpoint_is_seen_by_the_resumed_run_too(tmp_path, told):
    checkpoint = dict(type='mmckpt.CheckpointHook', interval=1)
    schedule = [dict(type='MultiStepLR', milestones=[2], gamma=10., by_epoch=True)]
    make_runner(tmp_path, TrainingMonitorHook(report=False), validate=False, param_scheduler=schedule,
                checkpoint=checkpoint).train()
    assert told == [20]
    (tmp_path / 'epoch_3.pth').unlink()
    make_runner(tmp_path, TrainingMonitorHook(report=False), validate=False, param_scheduler=schedule,
                checkpoint=checkpoint, resume=True).train()
    assert told == [20, 20]
