"""Wrong arguments in a config: one message that names the key, and exit status 2; a bug of ours keeps its traceback."""

import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmckpt.cli.argument_check import check_arguments
from mmckpt.errors import UsageError
from mmckpt.hooks import early_stopping_hook

CONFIG = Path(__file__).parents[1] / 'integration/project/tiny_epochs.py'
CHECKPOINT, STOPPING, MONITOR = 'default_hooks.checkpoint', 'custom_hooks.3', 'custom_hooks.4'

# What is passed as --cfg-options, the key that is named, and what is said of it.
WRONG = {
    'an interval that is a word': (
        f'{CHECKPOINT}.interval=never', f'{CHECKPOINT}.interval', "interval must be a whole number or 'auto', but got"),
    'a misspelled argument': (f'{CHECKPOINT}.intervall=1', f'{CHECKPOINT}.intervall',
                              "CheckpointHook has no argument 'intervall'. Did you mean 'interval'?"),
    'a misspelled key of a spec': (
        f'{CHECKPOINT}.save_best.2.metric=PCK {CHECKPOINT}.save_best.2.kep=3', f'{CHECKPOINT}.save_best',
        "The selection {'metric': 'PCK', 'kep': 3} has an unknown key 'kep'. Did you mean 'keep'"),
    "a value that MMEngine's own check refuses": (
        f'{CHECKPOINT}.published_keys=3', f'{CHECKPOINT}.published_keys', '"published_keys" should be'),
    'an argument without which there are two right ones': (
        f'{CHECKPOINT}.rule=up', f'{CHECKPOINT}.rule', 'rule must be greater, less or None, but got up'),
    'a patience below 0': (f'{STOPPING}.patience=-1', f'{STOPPING}.patience', 'patience must be at least 0 validation'),
    'a number that is a word': (f'{STOPPING}.patience=many', f'{STOPPING}.patience', "'<' not supported between"),
    'an argument that must be given': (f'{STOPPING}.monitor=[]', f'{STOPPING}.monitor', 'monitor is an empty list'),
    'a misspelled argument of another hook': (
        f'{STOPPING}.patiance=9', f'{STOPPING}.patiance', "EarlyStoppingHook has no argument 'patiance'. Did you mean"),
    'a switch that is none': (f'{MONITOR}.spik=True', f'{MONITOR}.spik', "There is no detector 'spik'. Did you mean"),
    'arguments that contradict each other': (
        f'{MONITOR}.spike=False {MONITOR}.on_spike=stop', MONITOR, "on_spike='stop' needs spike=True"),
    'a misspelled class': (f'{MONITOR}.type=mmckpt.TrainingMonitrHook', f'{MONITOR}.type',
                           "mmckpt has no 'TrainingMonitrHook'. Did you mean 'TrainingMonitorHook'"),
    'an argument of a sampler': (
        'train_dataloader.sampler.type=mmckpt.ResumableSampler train_dataloader.sampler.shufle=True',
        'train_dataloader.sampler.shufle', "ResumableSampler has no argument 'shufle'. Did you mean 'shuffle'"),
    'a metric': ('val_evaluator.type=mmckpt.PCK val_evaluator.threshold=0', 'val_evaluator.threshold',
                 'expected a PCK threshold above 0, found 0'),
}


@pytest.mark.parametrize('tool', [['train'], ['quick-check', '--iterations', '1']], ids=['train', 'quick-check'])
@pytest.mark.parametrize('wrong', WRONG)
def test_a_wrong_argument_is_named_by_its_key(wrong, tool, mmckpt, tmp_path):
    options, where, said = WRONG[wrong]
    status, _, err = mmckpt(tool[0], CONFIG, *tool[1:], '--work-dir', tmp_path / 'run', '--cfg-options',
                              *options.split())
    assert status == 2 and err.startswith(f'error: {where}: {said}') and f' Correct {CONFIG}' in err, err


def test_a_process_says_it_without_a_traceback(process, tmp_path):
    done = process(sys.executable, '-m', 'mmckpt.cli.main', 'train', CONFIG, '--work-dir', 'run', '--cfg-options',
                   f'{STOPPING}.patience=-1', cwd=tmp_path)
    assert done.returncode == 2 and 'Traceback' not in done.stdout
    assert done.stdout.splitlines()[-1] == (
        f'error: {STOPPING}.patience: patience must be at least 0 validations, but got -1. Correct {CONFIG}, or pass '
        f'--cfg-options {STOPPING}.patience=VALUE.')


@pytest.mark.parametrize('bug', [lambda: int('five'), lambda: {}['limit'], lambda: [][0], lambda: None.limit])
def test_an_error_that_nobody_raised_on_purpose_keeps_its_traceback(bug, monkeypatch):
    monkeypatch.setattr(early_stopping_hook, 'make_condition', lambda *arguments: bug())
    with pytest.raises((ValueError, KeyError, IndexError, AttributeError)) as caught:
        check_arguments(Config.fromfile(CONFIG))
    assert caught.traceback[-1].name == '<lambda>'


def test_what_is_right_or_not_ours_passes():
    cfg = Config(dict(
        default_hooks=dict(checkpoint=dict(type='mmckpt.CheckpointHook', interval=3, priority='LOW'),
                           logger=dict(type='LoggerHook', intervall=3)),
        custom_hooks=[dict(type='mmckpt.TrainingMonitorHook', divergence=False, memory=dict(window=9)),
                      dict(type='DetailedLossLogHook', intervall=3), dict(type='mmckpt.EMAHook', begin=3)],
        optim_wrapper=dict(type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='SGD'), paramwise_cfg=dict()),
        model=dict(type='mmdet.RetinaNet', anything=1)))
    check_arguments(cfg)


def test_names_without_a_scope_are_ours_where_that_is_the_default():
    cfg = Config(dict(default_scope='mmckpt', custom_hooks=[dict(type='DetailedLossLogHook', intervall=3)]))
    with pytest.raises(UsageError, match=r"custom_hooks\.0\.intervall: .* Did you mean 'interval'"):
        check_arguments(cfg)
