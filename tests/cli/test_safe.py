"""``--safe`` on configs of all kinds."""

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmckpt.cli.safe import make_safe

ADDED = ['mmckpt.RNGStateHook', 'mmckpt.PreemptionHook', 'mmckpt.TrainingMonitorHook', 'mmckpt.DetailedLossLogHook']


class ProjectCheckpointHook(CheckpointHook):
    """A subclass that a project might bring."""


@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook])
def test_stock_checkpoint_hook_is_replaced_with_the_same_arguments(kind):
    cfg = Config(dict(default_hooks=dict(
        checkpoint=dict(type=kind, interval=10, max_keep_ckpts=3, save_best=['AP', 'PCK'], rule='greater'))))
    lines = make_safe(cfg)
    assert cfg.default_hooks.checkpoint == dict(
        type='mmckpt.CheckpointHook', interval=10, max_keep_ckpts=3, save_best=['AP', 'PCK'], rule='greater')
    assert lines[0].startswith('default_hooks.checkpoint: ') and 'interval=10' in lines[0]


@pytest.mark.parametrize('config', [dict(), dict(default_hooks=None), dict(default_hooks=dict())])
def test_absent_checkpoint_hook_gets_mmengines_default(config):
    cfg = Config(config)
    make_safe(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='mmckpt.CheckpointHook', interval=1)


@pytest.mark.parametrize('hook', [
    dict(type='mmpose.CheckpointHook'), dict(type='AsyncCheckpointHook'), dict(type=ProjectCheckpointHook),
    None])
def test_what_is_not_known_is_left_alone_and_said(hook):
    cfg = Config(dict(default_hooks=dict(checkpoint=hook)))
    lines = make_safe(cfg)
    assert cfg.default_hooks.checkpoint == hook
    assert 'left alone' in lines[0]


@pytest.mark.parametrize('kind', ['EarlyStoppingHook', 'mmengine.EarlyStoppingHook', EarlyStoppingHook])
@pytest.mark.parametrize('place', ['default_hooks', 'custom_hooks'])
def test_early_stopping_is_replaced_with_the_same_arguments(kind, place):
    hook = dict(type=kind, monitor='AP', patience=4)
    cfg = Config({place: [hook] if place == 'custom_hooks' else dict(early_stopping=hook)})
    make_safe(cfg)
    found = cfg.custom_hooks[0] if place == 'custom_hooks' else cfg.default_hooks.early_stopping
    assert found == dict(type='mmckpt.EarlyStoppingHook', monitor='AP', patience=4)


def test_hooks_are_added_behind_those_of_the_config():
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook')]))
    make_safe(cfg)
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', *ADDED]


@pytest.mark.parametrize('present', ADDED)
def test_a_hook_that_is_there_is_not_added_again(present):
    cfg = Config(dict(custom_hooks=[dict(type=present, priority='LOW')]))
    lines = make_safe(cfg)
    kinds = [hook.type for hook in cfg.custom_hooks]
    assert sorted(kinds) == sorted(ADDED) and cfg.custom_hooks[0].priority == 'LOW'
    assert not any(present in line for line in lines)


def test_a_safe_config_stays_as_it_is():
    cfg = Config(dict())
    make_safe(cfg)
    once = cfg.pretty_text
    assert make_safe(cfg) == [] and cfg.pretty_text == once


def loader(sampler, dataset=None):
    return dict(batch_size=2, sampler=sampler, dataset=dataset or dict(type='CocoDataset', data_root='data'))


@pytest.mark.parametrize('train_cfg, expected', [
    (dict(by_epoch=True, max_epochs=3), dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=3)),
    (dict(by_epoch=False, max_iters=9), dict(type='mmckpt.IterBasedTrainLoop', max_iters=9)),
    (dict(type='EpochBasedTrainLoop', max_epochs=3), dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=3)),
    (dict(type=IterBasedTrainLoop, max_iters=9), dict(type='mmckpt.IterBasedTrainLoop', max_iters=9)),
    (dict(type=EpochBasedTrainLoop, max_epochs=3), dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=3)),
    (dict(type='mmckpt.IterBasedTrainLoop', max_iters=9), dict(type='mmckpt.IterBasedTrainLoop', max_iters=9)),
    (dict(type='mmseg.OwnLoop', max_iters=9), dict(type='mmseg.OwnLoop', max_iters=9)),
])
def test_the_loop_becomes_one_that_resumes_anywhere(train_cfg, expected):
    cfg = Config(dict(train_cfg=train_cfg, train_dataloader=loader(dict(type='DefaultSampler'))))
    lines = make_safe(cfg)
    assert cfg.train_cfg == expected
    assert any('mmseg.OwnLoop is left alone' in line for line in lines) == ('mmseg' in expected['type'])


@pytest.mark.parametrize('sampler, expected', [
    (dict(type='DefaultSampler', shuffle=True), dict(type='mmckpt.ResumableSampler', shuffle=True)),
    (dict(type=DefaultSampler, shuffle=False), dict(type='mmckpt.ResumableSampler', shuffle=False)),
    (dict(type='InfiniteSampler', shuffle=True), dict(type='mmckpt.ResumableSampler', shuffle=True, infinite=True)),
    (dict(type=InfiniteSampler), dict(type='mmckpt.ResumableSampler', infinite=True)),
    (dict(type='ClassBalancedSampler'), dict(type='ClassBalancedSampler')),
])
def test_the_sampler_becomes_one_that_can_be_entered_anywhere(sampler, expected):
    cfg = Config(dict(train_cfg=dict(by_epoch=True), train_dataloader=loader(sampler)))
    make_safe(cfg)
    assert cfg.train_dataloader.sampler == expected


def test_the_dataset_is_wrapped_once():
    cfg = Config(dict(train_cfg=dict(by_epoch=True), train_dataloader=loader(dict(type='DefaultSampler'))))
    make_safe(cfg)
    assert make_safe(cfg) == []
    assert cfg.train_dataloader.dataset == dict(
        type='mmckpt.DeterministicDataset', dataset=dict(type='CocoDataset', data_root='data'))
