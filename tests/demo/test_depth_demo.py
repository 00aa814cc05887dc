"""The depth demos: real windows, transforms, losses against numpy, and the net."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from skimage.data import stereo_motorcycle

from mmckpt.demo.depth_losses import depth_losses, shrink
from mmckpt.demo.depth_transforms import (
    CutDepthWindow,
    PackDepthInputs,
    RandomBrightness,
    RandomFlipDepth,
    SampleSparseDepth,
)
from mmckpt.demo.depth_unet import DepthUNet
from mmckpt.demo.motorcycle import MotorcycleDepthDataset, load_motorcycle

TRAIN, VAL = (64, 306), (306, 370)
ALL_CHANNELS = ('rgb', 'sparse', 'hole')


def dataset(columns=VAL, pipeline=(), **kwargs):
    with DefaultScope.overwrite_default_scope('mmckpt'):
        return MotorcycleDepthDataset(columns=columns, pipeline=list(pipeline), **kwargs)


def packed(number=0, channels=ALL_CHANNELS):
    return dataset(pipeline=[CutDepthWindow(), SampleSparseDepth(points=40, fixed=True),
                             PackDepthInputs(channels=channels)])[number]


@pytest.fixture
def batch():
    samples = [packed(i) for i in range(3)]
    return torch.stack([s['inputs'] for s in samples]), [s['data_samples'] for s in samples]


# Data ---------------------------------------------------------------------------


def test_depth_is_that_of_the_calibration_and_holes_stay_holes():
    _, depth = load_motorcycle()
    disparity = stereo_motorcycle()[2][::2, ::2][:, :370]
    known = np.isfinite(disparity)
    assert depth.shape == (250, 370) and np.array_equal(np.isfinite(depth), known)
    assert 0.9 < known.mean() < 0.95
    expected = 994.978 * 0.193001 / (disparity[known] + 31.086)
    np.testing.assert_allclose(depth[known], expected, rtol=1e-6)
    assert 2.1 < np.nanmin(depth) and np.nanmax(depth) < 5.02


def test_training_and_validation_share_no_column_whatever_the_jitter():
    image, _ = load_motorcycle()
    np.random.seed(0)
    for columns in (TRAIN, VAL):
        windows = dataset(columns, stride=16)
        for info in (windows.get_data_info(i) for i in range(len(windows))):
            assert columns[0] <= info['x'] and info['x'] + info['window'] <= columns[1]
        places = np.lib.stride_tricks.sliding_window_view(image[:, columns[0]:columns[1], 0], (64, 64))
        for _ in range(10):
            cut = CutDepthWindow(jitter=40)(windows.get_data_info(-1))['img'][..., 0]
            assert (places[:, :, ::9, ::9] == cut[::9, ::9]).all((2, 3)).any(), 'not a window of these columns'


def test_windows_cover_the_columns_and_have_names_of_their_own():
    data = dataset()
    windows = [data.get_data_info(i) for i in range(len(data))]
    assert len(windows) == 7 and windows[-1]['y'] == 186
    assert len({(w['img_id'], w['id']) for w in windows}) == 7


@pytest.mark.parametrize('columns', [(-1, 200), (0, 63), (300, 371)])
def test_columns_without_room_for_a_window_are_refused(columns):
    with pytest.raises(ValueError, match='room for a window of 64 pixels within 0 to 370'):
        dataset(columns)


def test_missing_depth_is_a_hole_for_the_model_and_not_sampled():
    inputs, sample = packed()['inputs'], packed()['data_samples']
    depth, sparse, hole = sample.gt_depth_map.data[0], inputs[3], inputs[4]
    assert torch.equal(hole == 1, torch.isnan(depth)) and hole.sum() > 0
    assert (sparse > 0).sum() == 40
    assert torch.equal(sparse[sparse > 0], depth[sparse > 0])
    assert inputs[:3].abs().max() <= 1 and torch.isfinite(inputs).all()


def test_a_validation_measures_the_same_pixels_each_time_and_a_training_others():
    def points(fixed):
        return dataset(pipeline=[CutDepthWindow(), SampleSparseDepth(40, fixed=fixed)])[2]['sparse']

    assert np.array_equal(points(True), points(True))
    assert not np.array_equal(points(False), points(False))


def test_a_window_without_depth_gives_no_points():
    assert SampleSparseDepth(40)(dict(x=0, y=0, depth=np.full((4, 4), np.nan, np.float32)))['sparse'].sum() == 0


def test_a_mirrored_window_has_mirrored_depth_and_brightness_leaves_depth_alone():
    before = CutDepthWindow()(dataset().get_data_info(0))
    after = RandomFlipDepth(prob=1.0)(dict(before))
    assert np.array_equal(after['img'][:, ::-1], before['img'])
    np.testing.assert_array_equal(after['depth'][:, ::-1], before['depth'])
    bright = RandomBrightness(gain=(2, 2))(dict(before))
    assert bright['img'].dtype == np.uint8 and bright['img'].mean() > before['img'].mean()
    assert bright['depth'] is before['depth']


def test_augmentation_draws_from_the_global_streams_that_a_resume_restores():
    pipeline = [CutDepthWindow(jitter=8), RandomFlipDepth(), RandomBrightness(), SampleSparseDepth(40),
                PackDepthInputs(ALL_CHANNELS)]
    drawn = []
    for seed in (1, 1, 2):
        random.seed(seed), np.random.seed(seed)
        drawn.append(dataset(TRAIN, pipeline)[5]['inputs'])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_an_unknown_channel_is_refused():
    with pytest.raises(ValueError, match="found .*'lidar'"):
        PackDepthInputs(channels=('rgb', 'lidar'))


# Losses -------------------------------------------------------------------------


def reference_losses(found, truth, scales=(1, 2, 4, 8)):
    """The three losses with loops and numpy, from their definition."""
    known = np.isfinite(truth)
    errors, standard = np.abs(found - truth)[known], np.zeros_like(found)
    for n in range(len(found)):
        def scaled(depth, mask=known[n]):
            centred = depth - depth[mask].mean()
            return centred / np.abs(centred[mask]).mean()
        standard[n] = scaled(found[n]) - scaled(np.where(known[n], truth[n], 0))
    steps = 0
    for scale in scales:
        blocks = [a.reshape(len(a), a.shape[1] // scale, scale, a.shape[2] // scale, scale) for a in (standard, known)]
        value, mask = blocks[0].mean((2, 4)), blocks[1].all((2, 4))
        for axis in (1, 2):
            pair = mask.take(range(1, mask.shape[axis]), axis) & mask.take(range(mask.shape[axis] - 1), axis)
            steps += np.abs(np.diff(value, axis=axis))[pair].mean()
    return dict(adepth=errors.mean(), rdepth=np.abs(standard)[known].mean(), rgrad=steps)


def test_losses_are_those_of_numpy_with_holes_left_out():
    rng = np.random.RandomState(0)
    found, truth = rng.uniform(1, 5, (2, 3, 32, 32))[:, :, :, :]
    truth[:, 3:7, 5:30] = np.nan
    truth[1, 20, 20] = np.inf
    losses = depth_losses(*(torch.from_numpy(a)[:, None] for a in (found, truth)))
    expected = reference_losses(found, truth)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-9)


def test_relative_losses_forgive_shift_and_scale_and_the_absolute_one_does_not():
    truth = torch.rand(2, 1, 16, 16) + 1
    losses = depth_losses(truth * 3 + 1, truth)
    assert losses['rdepth'] < 1e-5 and losses['rgrad'] < 1e-4 and losses['adepth'] > 1


def test_nothing_measured_gives_zero_and_no_nan_in_the_gradient():
    found = torch.rand(1, 1, 16, 16, requires_grad=True)
    losses = depth_losses(found, torch.full((1, 1, 16, 16), float('nan')))
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values()) and torch.isfinite(found.grad).all()


def test_a_wall_of_one_depth_has_finite_losses_and_gradients():
    found = torch.full((1, 1, 16, 16), 2.0, requires_grad=True)
    sum(depth_losses(found, torch.full((1, 1, 16, 16), 3.0)).values()).backward()
    assert torch.isfinite(found.grad).all()


def test_a_block_with_a_hole_does_not_count_at_its_scale():
    valid = torch.ones(1, 1, 4, 4)
    valid[..., 0, 0] = 0
    assert shrink(torch.zeros(1, 1, 4, 4), valid, 2)[1].flatten().tolist() == [0, 1, 1, 1]


# Net ----------------------------------------------------------------------------


def test_the_total_is_adepth_plus_rdepth_plus_half_rgrad_each_by_its_name(batch):
    torch.manual_seed(0)
    net = DepthUNet(in_channels=5).eval()
    total, terms = net.parse_losses(net(*batch, mode='loss'))
    assert list(terms) == ['loss', 'loss_adepth', 'loss_rdepth', 'loss_rgrad']
    truth = torch.stack([s.gt_depth_map.data for s in batch[1]])
    plain = depth_losses(net(batch[0]), truth)
    expected = plain['adepth'] + plain['rdepth'] + 0.5 * plain['rgrad']
    assert total.item() == pytest.approx(expected.item())


def test_every_parameter_gets_a_gradient(batch):
    net = DepthUNet(in_channels=5)
    net.parse_losses(net(*batch, mode='loss'))[0].backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


@pytest.mark.parametrize('channels', [('rgb',), ALL_CHANNELS])
def test_predictions_are_positive_maps_of_the_size_of_the_window(channels):
    data = packed(channels=channels)
    net = DepthUNet(in_channels=len(data['inputs'])).eval()
    found = net(data['inputs'][None], [data['data_samples']], mode='predict')[0].pred_depth_map
    assert found.data.shape == (1, 64, 64) and (found.data > 0).all()


def test_an_unknown_mode_is_named(batch):
    with pytest.raises(ValueError, match="found 'train'"):
        DepthUNet(in_channels=5)(*batch, mode='train')
