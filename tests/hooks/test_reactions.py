"""What happens to a training whose loss or gradient is not finite, or jumps: real Runners, planted faults."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from toy_runner import Net, make_runner, read_log

from mmckpt.errors import StoppedByMonitor
from mmckpt.hooks import TrainingMonitorHook
from mmckpt.hooks.step_guard import Window
from mmckpt.monitor.finding import Finding
from mmckpt.progress import Progress

MONITOR = 'mmckpt.TrainingMonitorHook'
EPOCHS = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=3)
OURS = dict(type='mmckpt.CheckpointHook', interval=1)


class Plant(Hook):
    """Alters the batch of some iterations (completed counts), and keeps the state after each iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, at=(), scale=float('nan')):
        self.at, self.scale, self.after, self.optimizer, self.batches = set(at), scale, {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches[runner.iter + 1] = data_batch['inputs'].clone()
        if runner.iter + 1 in self.at:
            data_batch['inputs'] *= self.scale

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.after[runner.iter + 1] = {k: v.clone() for k, v in runner.model.state_dict().items()}
        momenta = runner.optim_wrapper.optimizer.state_dict()['state']
        self.optimizer[runner.iter + 1] = [s['momentum_buffer'].clone() for s in momenta.values()]


def train(work_dir, plant, expect=None, hooks=(), **kwargs):
    """Train with the monitor's arguments in ``kwargs``; return the runner."""
    of_runner = ('epochs', 'model', 'optim_wrapper', 'train_cfg', 'checkpoint', 'resume', 'param_scheduler')
    runner_kwargs = {key: kwargs.pop(key) for key in of_runner if key in kwargs}
    runner = make_runner(work_dir, [{'AP': .1 * i} for i in range(60)],
                         [dict(type=MONITOR, **kwargs), plant, *hooks], **runner_kwargs)
    if expect is None:
        runner.train()
    else:
        with pytest.raises(expect):
            runner.train()
    return runner


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first)


def stats(work_dir):
    return json.loads((work_dir / 'training_stats.json').read_text())


class SteepRoot(Net):
    """A loss that is finite where its gradient is not: the square root of zero."""

    def forward(self, inputs, target=None, mode='tensor'):
        out = super().forward(inputs, target, mode)
        if mode == 'loss':
            # Zero only for the planted batch of zeros.
            out['root_loss'] = (self.head.weight.sum() * inputs.abs().sum()).square().sqrt()
        return out


@pytest.mark.parametrize('model, scale', [(Net, float('nan')), (SteepRoot, 0.)], ids=['loss', 'gradient only'])
def test_a_skipped_update_leaves_weights_optimizer_and_bn_statistics_as_they_were(model, scale, tmp_path):
    plant = Plant([5], scale)
    train(tmp_path, plant, on_nan='skip', model=model())
    assert same(plant.after[4], plant.after[5])
    assert all(map(torch.equal, plant.optimizer[4], plant.optimizer[5]))
    assert not same(plant.after[5], plant.after[6])
    assert all(v.isfinite().all() for v in plant.after[9].values())
    assert stats(tmp_path)['skipped_updates'] == 1
    assert 'The update of iteration 5 was not applied' in read_log(tmp_path)


def test_one_bad_batch_drops_its_whole_accumulation_window(tmp_path):
    sgd = dict(optimizer=dict(type='SGD', lr=.05, momentum=.9), accumulative_counts=3)
    ema = dict(type='EMAHook', update_buffers=True, momentum=.5)
    plant = Plant([5])
    runner = train(tmp_path, plant, on_nan='skip', optim_wrapper=sgd, hooks=[ema])
    assert same(plant.after[3], plant.after[6]) and not same(plant.after[6], plant.after[9])
    # The hook of the EMA sees the buffers after each batch, also inside the window.
    averaged = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model.state_dict()
    assert all(v.isfinite().all() for v in averaged.values())
    assert stats(tmp_path)['skipped_by_cause'] == {'nan': 1}


def test_schedulers_go_by_the_iteration_also_where_an_update_is_skipped(tmp_path):
    schedule = [dict(type='LinearLR', start_factor=.1, by_epoch=False, end=9)]
    lrs = [train(tmp_path / name, Plant(at), on_nan='skip', param_scheduler=schedule).optim_wrapper.get_lr()['lr']
           for name, at in (('clean', []), ('nan', [4, 5]))]
    assert lrs[0] == lrs[1]


@pytest.fixture
def scaled_wrapper(monkeypatch):
    """MMEngine's AMP wrapper with torch's scaler for the CPU; the wrapper's own asks for an accelerator."""

    def build(net, scale):
        module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
        monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
        monkeypatch.setattr(f'{module}.GradScaler', lambda **kw: torch.amp.GradScaler('cpu', **kw))
        monkeypatch.setattr('mmengine.runner.amp.autocast', lambda **kw: torch.autocast('cpu', dtype=torch.bfloat16))
        return AmpOptimWrapper(dict(init_scale=scale, growth_interval=1000), optimizer=torch.optim.SGD(
            net.parameters(), lr=.05, momentum=.9))

    return build


@pytest.mark.parametrize('scale, dropped', [(1024., 0), (.5, 1)], ids=['search for the scale', 'no scale helps'])
def test_the_loss_scaler_is_updated_and_its_search_is_not_counted(scale, dropped, scaled_wrapper, tmp_path):
    net, plant = SteepRoot(), Plant([5], 0.)
    wrapper = scaled_wrapper(net, scale)
    train(tmp_path, plant, on_nan='skip', model=net, optim_wrapper=wrapper)
    parameters = dict(net.named_parameters())
    assert all(torch.equal(plant.after[4][k], plant.after[5][k]) for k in parameters)
    assert not all(torch.equal(plant.after[5][k], plant.after[6][k]) for k in parameters)
    assert wrapper.loss_scaler.get_scale() == scale / 2
    assert stats(tmp_path)['skipped_updates'] == dropped


def test_a_loss_that_is_not_finite_is_skipped_with_a_scaler_too(scaled_wrapper, tmp_path):
    net, plant = Net(), Plant([5])
    train(tmp_path, plant, on_nan='skip', model=net, optim_wrapper=scaled_wrapper(net, 1024.))
    assert same(plant.after[4], plant.after[5]) and stats(tmp_path)['skipped_by_cause'] == {'nan': 1}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_float16_on_cuda_is_guarded(tmp_path):
    plant = Plant([5])
    train(tmp_path, plant, on_nan='skip', optim_wrapper=dict(
        type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=.05, momentum=.9)))
    assert same(plant.after[4], plant.after[5]) and not same(plant.after[5], plant.after[6])


def test_bfloat16_on_the_cpu_is_guarded(tmp_path):
    wrapper = dict(type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=.05, momentum=.9))
    plant = Plant([5])
    train(tmp_path, plant, on_nan='skip', optim_wrapper=wrapper)
    assert same(plant.after[4], plant.after[5])


def test_too_many_skips_in_a_row_stop_the_run_and_save_its_last_sound_state(tmp_path):
    plant = Plant(range(3, 9))
    runner = train(tmp_path, plant, StoppedByMonitor, on_nan=dict(type='skip', max_skips=2), checkpoint=OURS)
    assert runner.iter == 4
    saved = torch.load(tmp_path / 'interrupted_iter_5.pth', weights_only=True)
    assert same(saved['state_dict'], plant.after[2])
    assert stats(tmp_path)['status'] == 'stopped by the monitor: iteration 5: loss nan, gradient norm nan; ' \
        '3 updates in a row were dropped, max_skips=2'
    assert json.loads((tmp_path / 'mmckpt_index.json').read_text())['attempts'][-1]['why'] == 'monitor'


def test_stop_has_an_exit_status_of_its_own(tmp_path):
    plant = Plant([5])
    with pytest.raises(SystemExit) as caught:
        train(tmp_path, plant, on_nan='stop', checkpoint=OURS)
    assert caught.value.code == 76
    saved = torch.load(tmp_path / 'interrupted_iter_5.pth', weights_only=True)
    assert same(saved['state_dict'], plant.after[4])


def test_counts_survive_a_resume(tmp_path):
    once = train(tmp_path, Plant([4, 5]), on_nan='skip', checkpoint=OURS, epochs=2)
    assert once.iter == 6
    train(tmp_path, Plant([8]), on_nan='skip', checkpoint=OURS, resume=True)
    assert stats(tmp_path)['skipped_by_cause'] == {'nan': 3}


def test_a_spike_is_judged_before_its_update(tmp_path):
    plant = Plant([25], 1000.)

    class Plain(Net):
        """Without BN, which would normalise the jump away."""

        def __init__(self):
            super().__init__()
            self.norm = torch.nn.Identity()

    train(tmp_path, plant, spike=dict(factor=20.), on_spike='skip', epochs=10, model=Plain(),
          optim_wrapper=dict(optimizer=dict(type='SGD', lr=.001, momentum=.9)))
    assert same(plant.after[24], plant.after[25]) and not same(plant.after[25], plant.after[26])
    assert stats(tmp_path)['skipped_by_cause'] == {'spike': 1}


@pytest.mark.parametrize('value, dropped', [(20., 0), (60., 1)], ids=['lone outlier', 'enormous'])
def test_nothing_is_done_about_an_outlier_that_healthy_runs_have_too(value, dropped):
    hook = TrainingMonitorHook(on_spike='skip')._reactions
    noise = [1. + .4 * ((7 * step) % 11 - 5) / 5 for step in range(60)]
    assert [hook._judge(Window(step, loss, 1., False)) for step, loss in enumerate(noise)] == [False] * 60
    twin = hook.spike.__class__()
    twin.load_state_dict(hook.spike.state_dict())
    assert [f.severity for f in twin.update({'loss': value}, Progress(0, 61))] == ['warning' if dropped else 'info']
    assert hook._judge(Window(60, value, 1., False)) == bool(dropped)


def test_by_default_nothing_stands_before_the_step(tmp_path):
    plant = Plant()
    runner = make_runner(tmp_path, [{}] * 3, [dict(type=MONITOR), plant])
    seen = []
    plant.before_train_iter = lambda runner, **kwargs: seen.append(dict(vars(runner.optim_wrapper)))
    runner.train()
    assert seen and not any({'step', 'backward'} & set(attributes) for attributes in seen)
    assert not any(type(hook).__name__ == 'ReactionHook' for hook in runner.hooks)


def test_the_wrapper_is_itself_again_after_the_training(tmp_path):
    runner = train(tmp_path, Plant([5]), on_nan='skip')
    assert not {'step', 'backward'} & set(vars(runner.optim_wrapper))


# Rollback ------------------------------------------------------------------------


def go_back(work_dir, plant, expect=None, on_nan=(), **kwargs):
    return train(work_dir, plant, expect, on_nan=dict(type='rollback', **dict(on_nan)),
                 **{'train_cfg': EPOCHS, 'checkpoint': OURS, **kwargs})


def test_a_rollback_leaves_out_what_led_to_it_and_is_recorded(tmp_path):
    plant = Plant([5])
    schedule = [dict(type='StepLR', step_size=2, gamma=.1, by_epoch=True)]
    runner = go_back(tmp_path, plant, on_nan=dict(skip_iters=2, lr_factor=.5), param_scheduler=schedule)
    # Iterations 4 and 5 came again without an update; BN statistics stayed too.
    assert same(plant.after[3], plant.after[5]) and not same(plant.after[5], plant.after[6])
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(.05 * .5 * .1)]
    event = stats(tmp_path)['rollbacks'][0]
    assert (event['from_iter'], event['to_iter'], event['checkpoint']) == (5, 3, 'epoch_1.pth')
    assert stats(tmp_path)['skipped_by_cause'] == {'nan': 1, 'rollback': 2}
    text = (tmp_path / 'training_stats.txt').read_text()
    assert '- back from iter 5 to 3 (epoch_1.pth): nan' in text
    assert '- updates not applied: 2 (left out after a rollback)' in text and 'saves      3 files' in text
    attempts = json.loads((tmp_path / 'mmckpt_index.json').read_text())['attempts']
    assert [a['why'] for a in attempts] == ['rollback', 'finished'] and attempts[1]['event'] == event


def test_the_data_are_the_same_again_after_a_rollback(tmp_path):
    plant = Plant([5])
    seen = []
    plant.before_train_iter_ = plant.before_train_iter

    def keep(runner, batch_idx, data_batch=None):
        seen.append((runner.iter + 1, data_batch['inputs'].clone()))
        plant.before_train_iter_(runner, batch_idx, data_batch)
        plant.at.clear() if runner.iter + 1 == 5 else None

    plant.before_train_iter = keep
    go_back(tmp_path, plant, on_nan=dict(skip_iters=0))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9]
    assert torch.equal(seen[3][1], seen[5][1]) and torch.equal(seen[4][1], seen[6][1])


def test_rollbacks_are_limited(tmp_path):
    plant = Plant([5])
    runner = go_back(tmp_path, plant, StoppedByMonitor, on_nan=dict(skip_iters=0, max_rollbacks=2))
    assert runner.iter == 4 and len(stats(tmp_path)['rollbacks']) == 2
    assert 'max_rollbacks=2' in stats(tmp_path)['status']


class Dies(Hook):
    """Ends the training in the iteration after a rollback, before anything is saved."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if any(type(hook).__name__ == 'ReactionHook' and hook.rollbacks.count for hook in runner.hooks):
            raise RuntimeError('planted')


def test_a_run_that_dies_after_a_rollback_does_not_walk_into_the_same_again(tmp_path):
    go_back(tmp_path, Plant([5]), RuntimeError, on_nan=dict(lr_factor=.5), hooks=[Dies()])
    runner = go_back(tmp_path, Plant([5]), on_nan=dict(lr_factor=.5), resume=True)
    assert len(stats(tmp_path)['rollbacks']) == 1 and stats(tmp_path)['skipped_by_cause'] == {'rollback': 1}
    assert runner.optim_wrapper.get_lr()['lr'] == [.025]
    again = go_back(tmp_path, Plant(), on_nan=dict(lr_factor=.5), resume=True,
                    train_cfg=dict(EPOCHS, max_epochs=4))
    assert again.optim_wrapper.get_lr()['lr'] == [.025]


def test_a_window_that_a_resume_falls_into_is_dropped_as_a_whole(tmp_path):
    sgd = dict(optimizer=dict(type='SGD', lr=.05, momentum=.9), accumulative_counts=3)
    every = dict(type='mmckpt.CheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=20)
    four = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=3)

    class Stops(Dies):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == 6:
                raise RuntimeError('planted')

    train(tmp_path, Plant([5]), RuntimeError, on_nan='skip', optim_wrapper=sgd, checkpoint=every, hooks=[Stops()],
          train_cfg=four)
    assert torch.load(tmp_path / 'iter_5.pth', weights_only=True)['mmckpt']['windows'][0]['start'] == 3
    plant = Plant()
    train(tmp_path, plant, on_nan='skip', optim_wrapper=sgd, checkpoint=every, train_cfg=four, resume=True)
    before = torch.load(tmp_path / 'iter_3.pth', weights_only=True)['state_dict']
    assert same(before, plant.after[6]) and not same(plant.after[6], plant.after[9])


def test_learning_rates_of_several_rollbacks_multiply(tmp_path):
    plant = Plant([5])
    runner = go_back(tmp_path, plant, StoppedByMonitor, on_nan=dict(skip_iters=0, max_rollbacks=2, lr_factor=.5))
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(.05 * .25)]


def test_without_a_checkpoint_from_before_the_run_stops(tmp_path):
    go_back(tmp_path, Plant([2]), StoppedByMonitor)
    assert 'no valid checkpoint from before it' in stats(tmp_path)['status']


def test_a_rotten_checkpoint_is_not_gone_back_to(tmp_path):
    plant = Plant([8])

    class Rot(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 7 and plant.after.get(7) is not None and not (tmp_path / 'rotten').exists():
                (tmp_path / 'rotten').touch()
                with open(tmp_path / 'epoch_2.pth', 'r+b') as file:
                    file.seek(900), file.write(b'rot')

    go_back(tmp_path, plant, hooks=[Rot()])
    assert stats(tmp_path)['rollbacks'][0]['checkpoint'] == 'epoch_1.pth'


class Diverging(Hook):
    """Hands the monitor's hook the finding of a divergence that began earlier, once."""

    def __init__(self, at, start):
        self.at, self.start = at, start

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            self.at = None
            monitor = next(h for h in runner.hooks if isinstance(h, TrainingMonitorHook))
            monitor._reactions.notice([Finding('divergence', 'error', 'loss', 'the loss diverges', Progress(2, 8), 0.,
                                               {'start': self.start})])


def test_a_divergence_goes_back_to_before_its_begin_and_forgets_what_was_saved_since(tmp_path):
    train(tmp_path, Plant(), on_divergence='rollback', hooks=[Diverging(8, start=5)], train_cfg=EPOCHS, checkpoint=OURS)
    event = stats(tmp_path)['rollbacks'][0]
    assert (event['cause'], event['to_iter'], event['text']) == ('divergence', 3, 'the loss diverges')
    assert 'Dropped epoch_2.pth' in read_log(tmp_path)
    assert sorted(p.name for p in tmp_path.glob('epoch_*.pth')) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']


class Wide(Net):
    """Without BN and dropout; takes hundreds of iterations to come back from a bad step."""

    def __init__(self):
        super().__init__()
        self.norm = self.drop = torch.nn.Identity()


def test_a_real_divergence_is_over_after_one_rollback_because_the_batches_that_led_to_it_are_left_out(tmp_path):
    plant = Plant(range(95, 100), 300.)
    runner = train(tmp_path, plant, on_divergence='rollback', model=Wide(), checkpoint=dict(OURS, interval=10),
                   train_cfg=dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=140, val_interval=999),
                   optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4, momentum=.9)))
    (event,) = stats(tmp_path)['rollbacks']
    # It is found 3 blocks after the one in which it began, whose median does not show it.
    assert (event['cause'], event['from_iter'], event['to_iter']) == ('divergence', 250, 30)
    assert runner.iter == 420 and stats(tmp_path)['terms']['loss']['final'] < 10


def test_a_divergence_can_stop(tmp_path):
    train(tmp_path, Plant(), StoppedByMonitor, on_divergence='stop', hooks=[Diverging(8, start=5)], checkpoint=OURS)
    assert '--resume-from a checkpoint of iteration 4 or earlier' in read_log(tmp_path)


# Arguments -----------------------------------------------------------------------


@pytest.mark.parametrize('kwargs, text', [
    (dict(on_nan='skipp'), "on_nan must be 'warn', 'skip', 'stop' or 'rollback'"),
    (dict(on_divergence='skip'), "on_divergence must be 'warn', 'stop' or 'rollback'"),
    (dict(on_nan=dict(type='skip', lr_factor=.5)), "type='skip' has no parameter 'lr_factor'"),
    (dict(on_nan='skip', nan=False), 'needs nan=True'),
    (dict(on_spike='skip', spike=False), 'needs spike=True'),
])
def test_wrong_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        TrainingMonitorHook(**kwargs)


def test_several_optimizers_are_refused_before_training(tmp_path):
    net = Net()
    wrappers = OptimWrapperDict(all=OptimWrapper(torch.optim.SGD(net.parameters(), lr=.05)))
    runner = make_runner(tmp_path, [{}], [dict(type=MONITOR, on_nan='skip')], model=net, optim_wrapper=wrappers)
    with pytest.raises(ValueError, match='on_nan=.skip.*OptimWrapperDict cannot be judged'):
        runner.train()


@pytest.mark.parametrize('kwargs, text', [
    (dict(checkpoint=OURS), 'needs a train loop that can go back'),
    (dict(train_cfg=EPOCHS), 'needs mmckpt.CheckpointHook'),
    (dict(train_cfg=EPOCHS, checkpoint=dict(OURS, save_optimizer=False)), 'save_optimizer=True'),
])
def test_a_rollback_that_could_not_restore_everything_is_refused_before_training(kwargs, text, tmp_path):
    runner = make_runner(tmp_path, [{}], [dict(type=MONITOR, on_nan='rollback')], **kwargs)
    with pytest.raises(ValueError, match=text):
        runner.train()
    assert runner.iter == 0
