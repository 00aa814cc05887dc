"""The pose configs build what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from mmengine.runner import Runner

POSE = Path(__file__).parents[2] / 'configs/pose'
SHARED = ('default_scope', 'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
          'test_evaluator', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'env_cfg', 'randomness')


def load(name, work_dir):
    config = Config.fromfile(POSE / name)
    config.work_dir = str(work_dir)
    config.experiment_name = work_dir.name
    return config


@pytest.mark.parametrize('name', ['digits_keypoints.py', 'digits_keypoints_text.py'])
def test_a_runner_is_built_with_our_hooks(tmp_path, name):
    runner = Runner.from_cfg(load(name, tmp_path))
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert {'RNGStateHook', 'TrainingMonitorHook', 'DetailedLossLogHook', 'ValLossHook'} <= set(hooks)
    checkpoint = [hook for hook in runner.hooks if isinstance(hook, StockCheckpointHook)]
    assert [type(hook).__module__.split('.')[0] for hook in checkpoint] == ['mmckpt']
    assert checkpoint[0].save_best == ['AP', 'PCK']


def test_both_styles_describe_the_same_training(tmp_path):
    python, text = (load(n, tmp_path) for n in ('digits_keypoints.py', 'digits_keypoints_text.py'))
    for key in SHARED:
        assert python.to_dict()[key] == text.to_dict()[key], key


@pytest.mark.parametrize('name', ['pose/digits_keypoints.py', 'pose_distill/digits_distill.py',
                                  'pose_episodic/digits_episodic.py'])
def test_the_work_directory_is_named_by_literals_of_the_config(name):
    config = Config.fromfile(POSE.parent / name)
    assert config.work_dir == f'work_dirs/{config.date}_{Path(name).stem}_{config.description}'
    assert config.date == '20261124'


@pytest.mark.parametrize('environment, expected', [(None, 'data/coco/'), ('/sets/mine/', '/sets/mine/')])
def test_the_coco_root_comes_from_the_file_or_the_environment(monkeypatch, environment, expected):
    monkeypatch.delenv('COCO_ROOT', raising=False)
    if environment:
        monkeypatch.setenv('COCO_ROOT', environment)
    config = Config.fromfile(POSE / 'coco_keypoints.py')
    assert config.train_dataloader.dataset.dataset.data_root == config.val_dataloader.dataset.data_root == expected
