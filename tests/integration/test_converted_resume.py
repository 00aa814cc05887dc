"""A training that began in Lightning ends in MMEngine with the weights that Lightning would have had, and back."""

from __future__ import annotations

import itertools
from pathlib import Path

import foreign
import hostile
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import load_from_local

from mmckpt.cli.main import main
from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy

_names = itertools.count()


class Model(BaseModel):
    """The model of the foreign files, in MMEngine's form."""

    def __init__(self):
        super().__init__()
        self.net = foreign.net()

    def forward(self, inputs, targets, mode='loss'):
        return dict(loss=(self.net(inputs) - targets).square().mean())


class Pair(BaseModel):
    """Two nets with an optimizer each."""

    def __init__(self):
        super().__init__()
        self.first, self.second = foreign.net(), foreign.net(6)

    def forward(self, inputs, targets, mode='loss'):
        raise NotImplementedError

    def train_step(self, data, optim_wrapper):
        losses = {}
        for name in ('first', 'second'):
            losses[name] = (getattr(self, name)(data['inputs']) - data['targets']).square().mean()
            optim_wrapper[name].update_params(losses[name])
        return losses


class Batches(torch.utils.data.Dataset):
    """The samples of the foreign files."""

    def __getitem__(self, i):
        inputs, targets = (torch.cat(part)[i] for part in zip(*foreign.data()))
        return dict(inputs=inputs, targets=targets)

    def __len__(self):
        return 24


def runner(work_dir, epochs=5, optimizer='Adam', **kwargs):
    MMLogger._instance_dict.clear()
    hooks = kwargs.pop('custom_hooks', [])
    schedule = kwargs.pop('param_scheduler', dict(type='StepLR', step_size=2, gamma=0.5))
    wrapper = kwargs.pop('optim_wrapper', dict(optimizer=dict(type=optimizer, lr=0.01)))
    return Runner(
        kwargs.pop('model', None) or Model(), str(work_dir), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=dict(dataset=Batches(), batch_size=4, collate_fn=dict(type='default_collate'),
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=wrapper, param_scheduler=schedule, custom_hooks=hooks,
        default_hooks=dict(checkpoint=dict(type='mmckpt.CheckpointHook', interval=1)),
        experiment_name=f'converted{next(_names)}', **kwargs)


def begin(started):
    """Load, as ``train`` does before its first batch."""
    started.optim_wrapper = started.build_optim_wrapper(started.optim_wrapper)
    started.param_schedulers = started.build_param_scheduler(started.param_schedulers)
    assert started.train_loop is not None
    started.call_hook('before_run')
    started.load_or_resume()


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters()))


def test_a_lightning_training_goes_on_in_a_runner_to_the_bit(tmp_path):
    straight, _ = foreign.fit_lightning(tmp_path / 'straight', epochs=5)
    foreign.fit_lightning(tmp_path / 'lightning', epochs=3)
    assert not main(['convert', str(tmp_path / 'lightning/last.ckpt'), str(tmp_path / 'epoch_3.pth')])
    resumed = runner(tmp_path / 'run', load_from=str(tmp_path / 'epoch_3.pth'), resume=True)
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (5, 30)
    assert equal(resumed.model.net, straight.net)
    assert resumed.optim_wrapper.param_groups[0]['lr'] == 0.0025


def test_a_runner_resumes_from_a_lightning_file_itself(tmp_path):
    straight, _ = foreign.fit_lightning(tmp_path / 'straight', epochs=5)
    foreign.fit_lightning(tmp_path / 'lightning', epochs=3)
    resumed = runner(tmp_path / 'run', load_from=str(tmp_path / 'lightning/last.ckpt'), resume=True)
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (5, 30) and equal(resumed.model.net, straight.net)


def test_averaged_weights_of_lightning_are_those_of_emahook(tmp_path):
    averaging = foreign.lightning().pytorch.callbacks.WeightAveraging()
    module, _ = foreign.fit_lightning(tmp_path / 'lightning', epochs=3, callbacks=[averaging])
    checkpoint = torch.load(tmp_path / 'lightning/last.ckpt', weights_only=True)
    resumed = runner(tmp_path / 'run', load_from=str(tmp_path / 'lightning/last.ckpt'), resume=True,
                     custom_hooks=[dict(type='EMAHook')])
    begin(resumed)
    ema = next(hook for hook in resumed.hooks if isinstance(hook, EMAHook)).ema_model.module
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, checkpoint['current_model_state'][name])
        assert torch.equal(ema.state_dict()[name], checkpoint['state_dict'][name])


def test_an_average_goes_on_in_emahook_to_the_bit(tmp_path):
    for directory, epochs in (('straight', 5), ('begun', 3)):
        # The function that rounds as EMAHook does.
        averaging = foreign.lightning().pytorch.callbacks.WeightAveraging(
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        foreign.fit_lightning(tmp_path / directory, epochs, callbacks=[averaging])
    expected = torch.load(tmp_path / 'straight/last.ckpt', weights_only=True)
    resumed = runner(tmp_path / 'run', load_from=str(tmp_path / 'begun/last.ckpt'), resume=True,
                     custom_hooks=[dict(type='EMAHook', momentum=1 - 0.9)])
    resumed.train()
    ended = torch.load(tmp_path / 'run/epoch_5.pth', weights_only=True)
    for name, average in expected['state_dict'].items():
        assert torch.equal(ended['state_dict'][name], average)
        assert torch.equal(ended['ema_state_dict'][f'module.{name}'], expected['current_model_state'][name])


def two_optimizers():
    """The pair in Lightning."""
    class Lit(foreign.lightning().LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.first, self.second = foreign.net(), foreign.net(6)

        def training_step(self, batch, index):
            for net, optimizer in zip((self.first, self.second), self.optimizers()):
                optimizer.zero_grad()
                self.manual_backward((net(batch[0]) - batch[1]).square().mean())
                optimizer.step()

        def on_train_epoch_end(self):
            self.lr_schedulers().step()

        def validation_step(self, batch, index):
            self.log('val_loss', (self.first(batch[0]) - batch[1]).square().mean())

        def configure_optimizers(self):
            optimizers = [torch.optim.SGD(self.first.parameters(), 1e-2, 0.9),
                          torch.optim.Adam(self.second.parameters(), 1e-2)]
            return optimizers, [torch.optim.lr_scheduler.StepLR(optimizers[1], 2, 0.5)]

    return Lit()


@pytest.mark.parametrize('by_hand', [True, False])
def test_two_optimizers_go_on_in_an_optim_wrapper_dict_to_the_bit(tmp_path, by_hand):
    torch.manual_seed(2)
    straight, other = two_optimizers(), two_optimizers()
    other.load_state_dict(straight.state_dict())
    foreign.fit_lightning(tmp_path / 'straight', 5, module=straight)
    foreign.fit_lightning(tmp_path / 'begun', 3, module=other)
    file = tmp_path / 'begun/last.ckpt'
    if by_hand:
        assert not main(['convert', str(file), str(tmp_path / 'a.pth'), '--optimizers', 'first,second'])
        file = tmp_path / 'a.pth'
    model = Pair()
    wrapper = OptimWrapperDict(first=OptimWrapper(torch.optim.SGD(model.first.parameters(), 1e-2, 0.9)),
                               second=OptimWrapper(torch.optim.Adam(model.second.parameters(), 1e-2)))
    schedule = dict(first=[], second=dict(type='StepLR', step_size=2, gamma=0.5))
    resumed = runner(tmp_path / 'run', model=model, optim_wrapper=wrapper, param_scheduler=schedule, resume=True,
                     load_from=str(file))
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (5, 30) and equal(model, straight)
    assert wrapper['second'].param_groups[0]['lr'] == 0.0025 and wrapper['first'].param_groups[0]['lr'] == 0.01


schedules = torch.optim.lr_scheduler
SCHEDULES = {
    'warm-up': (lambda o: schedules.SequentialLR(o, [
        schedules.LinearLR(o, 0.1, total_iters=2), schedules.CosineAnnealingLR(o, 4)], [2]),
        [dict(type='LinearLR', start_factor=0.1, end=3), dict(type='CosineAnnealingLR', T_max=4, begin=2)]),
    'chain': (lambda o: schedules.ChainedScheduler([
        schedules.ConstantLR(o, 0.5, total_iters=4), schedules.ExponentialLR(o, 0.9)]),
        [dict(type='ConstantLR', factor=0.5, end=5), dict(type='ExponentialLR', gamma=0.9)]),
    'cycle': (lambda o: dict(interval='step', scheduler=schedules.OneCycleLR(
        o, 0.05, total_steps=37, cycle_momentum=False)),
        [dict(type='OneCycleLR', eta_max=0.05, total_steps=37, by_epoch=False)]),
    'restarts': (lambda o: schedules.CosineAnnealingWarmRestarts(o, 2),
                 [dict(type='CosineRestartLR', periods=[2] * 4, restart_weights=[1] * 4, eta_min=0)])}


def fit_straight_and_half(folder, optimizer_of, schedule_of):
    """Let Lightning train for 6 epochs, and for 3 from the same weights into ``begun``; return the former's module."""
    class Lit(type(foreign.lightning_module())):
        def configure_optimizers(self):
            optimizer = optimizer_of(self.net)
            return [optimizer], [schedule_of(optimizer)]

    torch.manual_seed(3)
    straight, half = Lit(), Lit()
    half.load_state_dict(straight.state_dict())
    foreign.fit_lightning(folder / 'straight', 6, module=straight)
    foreign.fit_lightning(folder / 'begun', 3, module=half)
    return straight


@pytest.mark.parametrize('name', list(SCHEDULES))
def test_chains_cycles_and_restarts_go_on_with_the_weights_that_lightning_would_have_had(tmp_path, name):
    make, written = SCHEDULES[name]
    straight = fit_straight_and_half(tmp_path, lambda net: torch.optim.Adam(net.parameters(), 1e-2), make)
    resumed = runner(tmp_path / 'run', 6, load_from=str(tmp_path / 'begun/last.ckpt'), resume=True,
                     param_scheduler=written)
    resumed.train()
    assert resumed.epoch == 6
    if name == 'restarts':
        # The same rates in a formula that rounds in another way.
        for ours, theirs in zip(resumed.model.net.parameters(), straight.net.parameters()):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    else:
        assert equal(resumed.model.net, straight.net)


def grouped(net):
    """An optimizer with two groups."""
    parameters = list(net.parameters())
    return torch.optim.Adam([dict(params=parameters[:2], lr=1e-2), dict(params=parameters[2:], lr=3e-2)])


@pytest.mark.parametrize('name', ['warm-up', 'cycle'])
def test_several_groups_of_parameters_go_on_there_and_back(tmp_path, name):
    make, written = SCHEDULES[name]
    straight = fit_straight_and_half(tmp_path, grouped, make)
    model = Model()
    resumed = runner(tmp_path / 'run', 6, model=model, optim_wrapper=OptimWrapper(grouped(model.net)), resume=True,
                     param_scheduler=written, load_from=str(tmp_path / 'begun/last.ckpt'))
    resumed.train()
    assert equal(model.net, straight.net)
    assert not main(['convert', str(tmp_path / 'run/epoch_5.pth'), str(tmp_path / 'five.ckpt')])
    last = type(straight)()
    foreign.fit_lightning(tmp_path / 'last', 6, ckpt_path=tmp_path / 'five.ckpt', module=last)
    assert equal(last.net, straight.net)


def test_a_chain_of_a_runner_goes_on_in_lightning_to_the_bit(tmp_path):
    make, written = SCHEDULES['warm-up']

    class Lit(type(foreign.lightning_module())):
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), 1e-2)
            return [optimizer], [make(optimizer)]

    straight = runner(tmp_path / 'straight', param_scheduler=written, randomness=dict(seed=1))
    straight.train()
    assert not main(['convert', str(tmp_path / 'straight/epoch_3.pth'), str(tmp_path / 'three.ckpt')])
    module, _ = foreign.fit_lightning(tmp_path / 'run', 5, ckpt_path=tmp_path / 'three.ckpt', module=Lit())
    assert equal(module.net, straight.model.net)


def test_a_file_from_inside_an_epoch_says_so(tmp_path):
    callback = foreign.lightning().pytorch.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=9, filename='nine')
    foreign.fit_lightning(tmp_path / 'lightning', epochs=2, callbacks=[callback])
    found = anatomy(open_file(tmp_path / 'nine.ckpt').tree)
    assert (found.epoch, found.iter) == (1, 9)


def test_a_runner_training_goes_on_in_lightning_to_the_bit(tmp_path):
    torch.manual_seed(1)
    straight = runner(tmp_path / 'straight', randomness=dict(seed=1))
    straight.train()
    assert not main(['convert', str(tmp_path / 'straight/epoch_3.pth'), str(tmp_path / 'three.ckpt')])
    module, trainer = foreign.fit_lightning(tmp_path / 'lightning', epochs=5, ckpt_path=tmp_path / 'three.ckpt')
    assert (trainer.current_epoch, trainer.global_step) == (5, 30)
    assert equal(module.net, straight.model.net)


@pytest.mark.parametrize('write, options', [
    (foreign.system_b, ['--map', '=>net.']), (foreign.mmcv, ['--map', '=>net.']),
    (foreign.system_e, ['--map', '=>net.', '--iter', '18'])])
def test_hand_written_and_old_files_go_on_in_a_runner_to_the_bit(tmp_path, write, options):
    _, optimizer = write(tmp_path / 'last.pth')
    straight, _, _ = foreign.trained(type(optimizer), epochs=4)
    assert not main(['convert', str(tmp_path / 'last.pth'), str(tmp_path / 'epoch_3.pth'), *options])
    resumed = runner(tmp_path / 'run', epochs=4, optimizer=type(optimizer).__name__, resume=True,
                     load_from=str(tmp_path / 'epoch_3.pth'), custom_hooks=[dict(type='mmckpt.RNGStateHook')])
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (4, 24) and equal(resumed.model.net, straight)
    # The config in the mmcv file would make this one, were it run.
    assert not Path('executed').exists()


def test_load_from_takes_weights_from_files_of_other_programs(tmp_path):
    model, _ = foreign.system_e(tmp_path / 'e.pth')
    torch.save({'epoch': 1, 'model': {f'module.net.{k}': v for k, v in model.state_dict().items()},
                'args': foreign.Unknown()}, tmp_path / 'odd.pth')
    write_safetensors({f'net.{k}': v for k, v in model.state_dict().items()}, tmp_path / 'a.safetensors')
    for name in ('odd.pth', 'a.safetensors'):
        started = runner(tmp_path / 'run', epochs=1, load_from=str(tmp_path / name))
        begin(started)
        assert equal(started.model.net, model) and started.iter == 0
        assert CheckpointLoader._get_checkpoint_loader('file.pth') is load_from_local


def test_a_hostile_file_is_not_loaded(tmp_path):
    hostile.os_system(tmp_path / 'a.pth', str(tmp_path / 'victim'))
    started = runner(tmp_path / 'run', epochs=1, load_from=str(tmp_path / 'a.pth'))
    with pytest.raises(IncompatibleCheckpointError, match='would call posix.system'):
        begin(started)
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    assert not (tmp_path / 'victim').exists()


def write_safetensors(weights, path):
    pytest.importorskip('safetensors.torch').save_file(weights, path)
