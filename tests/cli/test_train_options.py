"""Options of ``train`` as changes of a config."""

from argparse import Namespace

import pytest
from mmengine.config import Config
from mmengine.device import get_device

from mmckpt.cli.train_options import (
    disable_validation,
    enable_amp,
    enable_auto_scale_lr,
    enable_visualization,
)
from mmckpt.errors import UsageError


def config_with_validation():
    return Config(dict(
        val_cfg=dict(), val_dataloader=dict(batch_size=1), val_evaluator=dict(type='PCK'),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=2, save_best='PCK', rule='greater')),
        custom_hooks=[dict(type='mmckpt.ValLossHook'), dict(type='EarlyStoppingHook', monitor='PCK'),
                      dict(type='EMAHook')]))


def test_no_validate_says_once_what_has_nothing_to_act_on():
    cfg = config_with_validation()
    [line] = disable_validation(cfg)
    assert "save_best='PCK'" in line and 'ValLossHook' in line and 'EarlyStoppingHook' in line
    assert 'EMAHook' not in line


def test_no_validate_takes_out_the_validation_and_save_best():
    cfg = config_with_validation()
    disable_validation(cfg)
    assert not {'val_cfg', 'val_dataloader', 'val_evaluator'} & set(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=2)


@pytest.mark.skipif(get_device() != 'cpu', reason='an accelerator is used where there is one')
@pytest.mark.parametrize('kind', [{}, dict(type='OptimWrapper'),
                                  dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')])
def test_amp_without_an_accelerator_is_bfloat16(kind):
    cfg = Config(dict(optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1), **kind)))
    enable_amp(cfg)
    assert cfg.optim_wrapper == dict(type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1),
                                     clip_grad=dict(max_norm=1))


@pytest.mark.parametrize('wrapper', [
    None, dict(type='ApexOptimWrapper', optimizer=dict(type='SGD')), dict(constructor='GANConstructor')])
def test_amp_refuses_other_wrappers(wrapper):
    with pytest.raises(UsageError, match='--amp needs'):
        enable_amp(Config(dict(optim_wrapper=wrapper)))


def test_auto_scale_lr_turns_on_what_the_config_describes():
    cfg = Config(dict(auto_scale_lr=dict(base_batch_size=256)))
    enable_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr == dict(base_batch_size=256, enable=True)


@pytest.mark.parametrize('found', [None, dict(enable=False)])
def test_auto_scale_lr_needs_a_base_batch_size(found):
    with pytest.raises(UsageError, match='base_batch_size'):
        enable_auto_scale_lr(Config(dict(auto_scale_lr=found)))


def test_show_dir_turns_on_the_visualization_hook_or_says_that_there_is_none():
    args = Namespace(show=False, show_dir='pictures', interval=5, wait_time=1)
    cfg = Config(dict(default_hooks=dict(visualization=dict(type='PoseVisualizationHook', enable=False))))
    enable_visualization(cfg, args)
    assert cfg.default_hooks.visualization == dict(
        type='PoseVisualizationHook', enable=True, show=False, out_dir='pictures', interval=5)
    with pytest.raises(UsageError, match='it has logger'):
        enable_visualization(Config(dict(default_hooks=dict(logger=dict(type='LoggerHook')))), args)
