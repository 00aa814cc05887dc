"""A training that began in Lightning ends in MMEngine with the weights that Lightning would have had, and back."""

from __future__ import annotations

import itertools

import foreign
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmckpt.cli.main import main

_names = itertools.count()


class Model(BaseModel):
    """The model of the foreign files, in MMEngine's form."""

    def __init__(self):
        super().__init__()
        self.net = foreign.net()

    def forward(self, inputs, targets, mode='loss'):
        return dict(loss=(self.net(inputs) - targets).square().mean())


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
    return Runner(
        Model(), str(work_dir), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=dict(dataset=Batches(), batch_size=4, collate_fn=dict(type='default_collate'),
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=dict(optimizer=dict(type=optimizer, lr=0.01)),
        param_scheduler=dict(type='StepLR', step_size=2, gamma=0.5), custom_hooks=hooks,
        default_hooks=dict(checkpoint=dict(type='mmckpt.CheckpointHook', interval=1)),
        experiment_name=f'converted{next(_names)}', **kwargs)


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
def test_hand_written_and_old_files_go_on_in_a_runner(tmp_path, write, options):
    _, optimizer = write(tmp_path / 'last.pth')
    assert not main(['convert', str(tmp_path / 'last.pth'), str(tmp_path / 'epoch_3.pth'), *options])
    kind = type(optimizer).__name__
    resumed = runner(tmp_path / 'run', optimizer=kind, load_from=str(tmp_path / 'epoch_3.pth'), resume=True,
                     custom_hooks=[dict(type='mmckpt.RNGStateHook')])
    resumed.call_hook('before_run')
    resumed.load_or_resume()
    assert (resumed.epoch, resumed.iter) == (3, 18)
    assert not (tmp_path / 'executed').exists()
