from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from forked import on_two_ranks
from mmengine.dist import is_main_process
from mmengine.structures import BaseDataElement
from toy_runner import Net, Points, loader, make_runner, read_log

from mmckpt.hooks.val_loss_hook import batch_size, metric_name

HOOK = dict(type='mmckpt.ValLossHook')
AP = [{'AP': .1}, {'AP': .3}, {'AP': .2}]


class Recorder:
    """Keeps the metrics of each validation, and the weights in its course and after it."""

    def __init__(self, runner):
        self.metrics, self.weights_during, self.weights_after = [], [], []
        run, evaluate = runner.val_loop.run, runner.val_loop.evaluator.evaluate

        def weights():
            return {name: value.clone() for name, value in runner.model.state_dict().items()}

        def recorded_evaluate(size):
            self.weights_during.append(weights())
            return evaluate(size)

        def recorded_run():
            self.metrics.append(run())
            self.weights_after.append(weights())

        runner.val_loop.evaluator.evaluate, runner.val_loop.run = recorded_evaluate, recorded_run


def expected_losses(state_dict, data):
    """The losses of the whole set at once, with a fresh model in evaluation mode."""
    model = Net().eval()
    model.load_state_dict(state_dict)
    with torch.no_grad():
        out = model.head(model.norm(data.inputs))
    mse, l1 = (out - data.target).square().mean().item(), (out - data.target).abs().mean().item()
    return dict(loss=mse + l1, loss_heatmap=mse, loss_l1=l1, acc_pose=(out > 0).float().mean().item())


def test_it_is_the_mean_over_samples_in_total_and_by_term_also_with_an_uneven_last_batch(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK])
    recorder = Recorder(runner)
    runner.train()
    assert [m['AP'] for m in recorder.metrics] == [.1, .3, .2]
    for metrics, weights in zip(recorder.metrics, recorder.weights_after):
        wanted = expected_losses(weights, Points(10))
        assert {k: metrics[k] for k in wanted} == pytest.approx(wanted, rel=1e-5)
        assert all(type(metrics[k]) is float for k in wanted)


def test_it_is_in_the_logs(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK])
    recorder = Recorder(runner)
    runner.train()
    log = read_log(tmp_path)
    # MMEngine would print the mean over the last validations of whatever is called a loss.
    for epoch, metrics in enumerate(recorder.metrics, 1):
        line = next(line for line in log.splitlines() if f'Epoch(val) [{epoch}]' in line and 'loss:' in line)
        assert f"loss: {metrics['loss']:.4f}" in line
    assert 'loss_heatmap:' in log


@pytest.mark.parametrize('type_', ['CheckpointHook', 'mmckpt.CheckpointHook'])
def test_the_best_checkpoint_can_be_chosen_by_it(tmp_path, type_):
    runner = make_runner(tmp_path, AP, [HOOK], checkpoint=dict(type=type_, interval=99, save_best='loss'))
    recorder = Recorder(runner)
    runner.train()
    losses = [m['loss'] for m in recorder.metrics]
    best = losses.index(min(losses)) + 1
    assert (tmp_path / f'best_loss_epoch_{best}.pth').is_file()
    assert runner.message_hub.get_info('best_score') == min(losses)


def test_early_stopping_can_monitor_it(tmp_path):
    stopping = dict(type='mmckpt.EarlyStoppingHook', monitor='loss', min_delta=100.0, patience=1)
    runner = make_runner(tmp_path, AP, [HOOK, stopping])
    runner.train()
    assert runner.epoch == 2


def test_with_ema_it_is_the_loss_of_the_averaged_weights(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK, dict(type='EMAHook', momentum=0.3, update_buffers=True)])
    recorder = Recorder(runner)
    runner.train()
    assert len(recorder.metrics) == 3
    for metrics, ema, trained in zip(recorder.metrics, recorder.weights_during, recorder.weights_after):
        assert metrics['loss'] == pytest.approx(expected_losses(ema, Points(10))['loss'], rel=1e-5)
        assert metrics['loss'] != pytest.approx(expected_losses(trained, Points(10))['loss'], rel=1e-3)


class Restless(Net):
    """Its loss draws from every stream and writes to buffers in place and by assignment."""

    def __init__(self):
        super().__init__()
        self.register_buffer('queue', torch.zeros(3))
        self.register_buffer('steps', torch.zeros(1))

    def forward(self, inputs, target=None, mode='tensor'):
        losses = super().forward(inputs, target, mode)
        if mode == 'loss':
            noise = random.random() + np.random.rand() + torch.rand(3)
            self.queue.copy_(self.queue + noise)
            self.steps = self.steps + 1
            losses['loss_noise'] = 0.01 * self.head.weight.sum() * (noise + self.queue + self.steps).sum()
        return losses


@pytest.mark.parametrize('model', [Net, Restless])
def test_training_is_the_same_to_the_bit_with_and_without_it(tmp_path, model):
    ends = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        random.seed(1)
        runner = make_runner(tmp_path / name, AP, hooks, model=make_model(model))
        runner.train()
        ends.append((runner.model.state_dict(), runner.optim_wrapper.state_dict()['state'],
                     random.random(), np.random.rand(), torch.rand(1)))
    (weights, momenta, *drawn), (weights_without, momenta_without, *drawn_without) = ends
    assert drawn == drawn_without
    assert all(torch.equal(weights[k], weights_without[k]) for k in weights)
    for k in momenta:
        assert torch.equal(momenta[k]['momentum_buffer'], momenta_without[k]['momentum_buffer'])


def make_model(model):
    torch.manual_seed(3)
    return model()


def test_nothing_of_a_graph_or_a_gradient_is_left(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK])
    runner.val()
    assert all(p.grad is None and p.requires_grad for p in runner.model.parameters())
    assert not runner.model.training


def test_a_validation_set_without_targets_gives_one_clear_warning_and_training_goes_on(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK], val=loader(10, keys=('inputs',)))
    recorder = Recorder(runner)
    runner.train()
    assert recorder.metrics == AP and runner.epoch == 3
    log = read_log(tmp_path)
    assert log.count('This validation has no loss') == 1
    assert "Net with mode='loss' failed on a validation batch. Mostly the validation pipeline makes no" in log
    assert 'TypeError: unsupported operand' in log


def test_a_metric_of_the_evaluator_is_not_overwritten_and_a_prefix_keeps_both(tmp_path):
    given = [{'loss': 5.0}] * 2
    runner = make_runner(tmp_path / 'a', given, [HOOK], epochs=2)
    recorder = Recorder(runner)
    runner.train()
    assert [m['loss'] for m in recorder.metrics] == [5.0, 5.0] and 'loss_heatmap' in recorder.metrics[0]
    assert read_log(tmp_path / 'a').count("The evaluator has a metric 'loss'") == 1

    runner = make_runner(tmp_path / 'b', given, [dict(prefix='val', **HOOK)], epochs=2)
    recorder = Recorder(runner)
    runner.train()
    assert {'loss', 'val/loss', 'val/loss_heatmap'} <= set(recorder.metrics[0])
    assert 'The evaluator has' not in read_log(tmp_path / 'b')


class Plain(Net):
    """Returns some terms as plain numbers, and one in a part of the batches only."""

    def forward(self, inputs, target=None, mode='tensor'):
        losses = super().forward(inputs, target, mode)
        if mode == 'loss':
            losses['loss_float'], losses['loss_list'] = 0.5, [1, torch.tensor(0.25)]
            if len(inputs) == 2:
                losses['rare_loss'] = torch.tensor(3.0)
        return losses


def test_numbers_lists_and_terms_that_are_rare_count_as_they_are(tmp_path):
    runner = make_runner(tmp_path, AP, [HOOK], model=Plain())
    recorder = Recorder(runner)
    runner.val_loop.run()
    metrics, wanted = recorder.metrics[0], expected_losses(recorder.weights_after[0], Points(10))
    assert (metrics['loss_float'], metrics['loss_list'], metrics['loss_rare']) == (0.5, 1.25, 3.0)
    assert metrics['loss'] == pytest.approx(wanted['loss'] + 1.75 + 0.2 * 3.0, rel=1e-5)


@pytest.mark.parametrize('term, name', [
    ('heatmap_loss', 'loss_heatmap'), ('vis_dist_loss', 'loss_vis_dist'), ('loss', 'loss'),
    ('loss_cls', 'loss_cls'), ('s0.loss_cls', 's0.loss_cls'), ('acc_pose', 'acc_pose')])
def test_names_of_terms(term, name):
    assert metric_name(term) == name


@pytest.mark.parametrize('batch, size', [
    (dict(inputs=torch.zeros(3, 2), data_samples=[1]), 3), (dict(data_samples=[1, 2]), 2),
    (dict(inputs=dict(points=[1, 2, 3, 4])), 4), ((torch.zeros(2, 7), [0, 1, 2]), 2), ([[1, 2, 3], [0]], 3)])
def test_the_size_of_a_batch(batch, size):
    assert batch_size(batch) == size


def test_two_ranks_give_the_value_of_one(tmp_path):
    on_two_ranks(validate, tmp_path)
    metrics, weights = torch.load(tmp_path / 'result.pth')
    wanted = expected_losses({k.replace('module.', ''): v for k, v in weights.items()}, Points(11))
    assert {k: metrics[k] for k in wanted} == pytest.approx(wanted, rel=1e-5)


def validate(folder):
    """A rank: validates and keeps what it found. It does not train: batch normalisation would make the ranks differ."""
    val = loader(11)
    val['sampler']['round_up'] = False
    runner = make_runner(folder, [dict(AP=.1)], [dict(type='mmckpt.ValLossHook')], val=val, launcher='pytorch',
                         cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)))
    metrics = runner.val()
    if is_main_process():
        torch.save((metrics, runner.model.state_dict()), folder / 'result.pth')


class Generous(Net):
    """Gives its losses along with the predictions, as some models do; a second forward is counted."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, inputs, target=None, mode='tensor'):
        if mode == 'loss' and not self.training:
            self.asked += 1
        out = super().forward(inputs, target, 'tensor')
        if mode != 'predict':
            return super().forward(inputs, target, mode)
        error = torch.stack(out) - target
        return [*out, BaseDataElement(loss=dict(heatmap_loss=error.square().mean(),
                                                loss_l1=[error.abs().mean() / 2, error.abs().mean() / 2]))]


def test_losses_that_the_model_gives_cost_no_second_forward(tmp_path):
    model = Generous()
    runner = make_runner(tmp_path, AP, [HOOK], model=model)
    recorder = Recorder(runner)
    runner.train()
    assert model.asked == 0
    for metrics, weights in zip(recorder.metrics, recorder.weights_after):
        wanted = expected_losses(weights, Points(10))
        assert {k: metrics[k] for k in ('loss', 'loss_heatmap')} == pytest.approx(
            {k: wanted[k] for k in ('loss', 'loss_heatmap')}, rel=1e-5)
    assert 'which ValLossHook leaves' not in read_log(tmp_path)


def test_each_of_several_loaders_has_its_own(tmp_path):
    runner = make_runner(tmp_path, AP * 2, [HOOK], val=[loader(10), loader(7)],
                         val_cfg=dict(type='mmckpt.MultiValLoop', names=['near', 'far']))
    recorder = Recorder(runner)
    runner.train()
    metrics, weights = recorder.metrics[-1], recorder.weights_after[-1]
    near, far = (expected_losses(weights, Points(n))['loss'] for n in (10, 7))
    assert metrics['near/loss'] == pytest.approx(near, rel=1e-5)
    assert metrics['far/loss'] == pytest.approx(far, rel=1e-5)
    assert metrics['loss'] == pytest.approx((10 * near + 7 * far) / 17, rel=1e-5)
