"""Pictures of batches, from the command line and through the run's visualizer."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmckpt.demo import show
from mmckpt.demo.drawing import Panel, draw_panels
from mmckpt.demo.visualization_hook import KeypointVisualizationHook
from mmckpt.registry import MODELS

CONFIG = Path(__file__).parents[2] / 'configs/pose/digits_keypoints.py'
EPISODIC = CONFIG.parents[1] / 'pose_episodic/digits_episodic.py'


def panel(predictions):
    targets = np.array([[10.0, 12.0], [40.0, 30.0]])
    return Panel(np.full((64, 64, 3), 128, np.uint8), targets, np.array([True, False]), predictions)


def test_the_error_of_a_panel_is_over_labelled_points():
    assert panel(np.array([[13.0, 16.0], [0.0, 0.0]])).error == 5.0
    assert np.isnan(panel(None).error)


def test_predictions_and_targets_both_show_in_a_drawing():
    plain = draw_panels([panel(None)] * 3, ['a', 'b'])
    drawn = draw_panels([panel(np.array([[30.0, 50.0], [5.0, 5.0]]))] * 3, ['a', 'b'])
    assert plain.shape == drawn.shape and plain.dtype == np.uint8
    red = (drawn[..., 0] > 200) & (drawn[..., 1] < 90) & (drawn[..., 2] < 90)
    red_before = (plain[..., 0] > 200) & (plain[..., 1] < 90) & (plain[..., 2] < 90)
    assert red.sum() > red_before.sum() > 0
    # The hidden point's colour is in the legend only.
    green = (drawn[..., 1] > 200) & (drawn[..., 0] < 90)
    assert green[:int(0.8 * len(green))].sum() == 0 and green.sum() > 0


@pytest.mark.parametrize('split', ['val', 'train'])
def test_the_command_writes_a_picture_of_targets(tmp_path, split, capsys):
    out = tmp_path / 'batch.png'
    show.main([str(CONFIG), '--out', str(out), '--split', split, '--num', '4'])
    assert mmcv.imread(str(out)).std() > 10
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize('config, num', [(CONFIG, 2), (EPISODIC, 8)])
def test_the_command_shows_a_checkpoints_predictions(tmp_path, config, num):
    net = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=net.state_dict()), tmp_path / 'weights.pth')
    for name, more in (('without.png', []), ('with.png', [str(tmp_path / 'weights.pth')])):
        show.main([str(config), *more, '--out', str(tmp_path / name), '--num', str(num)])
    without, found = (mmcv.imread(str(tmp_path / name)) for name in ('without.png', 'with.png'))
    assert not np.array_equal(without, found)


@pytest.mark.parametrize('interval, expected', [(1, ['val_keypoints_1.png', 'val_keypoints_2.png']),
                                                (2, ['val_keypoints_2.png'])])
def test_a_run_shows_pictures_at_its_interval(tmp_path, interval, expected):
    config = Config.fromfile(CONFIG)
    config.work_dir, config.experiment_name = str(tmp_path), f'{tmp_path.name}_{interval}'
    config.train_cfg.max_epochs = 2
    config.custom_hooks = [dict(type='mmckpt.KeypointVisualizationHook', interval=interval, num_samples=3)]
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.batch_size = 4
        (loader.dataset.get('dataset') or loader.dataset).indices = 8
    with DefaultScope.overwrite_default_scope('mmckpt'):
        Runner.from_cfg(config).train()
    assert sorted(p.name for p in tmp_path.glob('*/vis_data/vis_image/*.png')) == expected


@pytest.mark.parametrize('arguments', [dict(interval=0), dict(num_samples=0)])
def test_numbers_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match='at least 1, found 0'):
        KeypointVisualizationHook(**arguments)
