"""``--safe`` on configs of all kinds."""

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from mmckpt.cli.safe import make_safe

ADDED = ['mmckpt.RNGStateHook', 'mmckpt.TrainingMonitorHook', 'mmckpt.DetailedLossLogHook']


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
