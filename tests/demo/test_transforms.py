"""Augmentations move the picture and its key points together."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmckpt.demo.transforms import (
    GenerateHeatmap,
    PackKeypointInputs,
    PhotometricJitter,
    RandomFlipKeypoints,
    RandomScaleShift,
    TopdownCrop,
)

SPOTS = np.array([[20, 12], [44, 12], [30, 50]], dtype=np.float32)


def spotted_sample(width=64, height=64):
    """A black picture with one bright 3x3 spot a key point: blue, green and red."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for channel, (x, y) in enumerate(SPOTS.astype(int)):
        image[y - 1:y + 2, x - 1:x + 2, channel] = 255
    return dict(img=image, keypoints=SPOTS.copy(), keypoints_visible=np.ones(3, dtype=np.float32),
                bbox=np.array([10, 5, 54, 58], dtype=np.float32), area=44.0 * 53, flip_indices=[1, 0, 2],
                img_id=7, id=8)


def spot_centre(image, channel):
    ys, xs = np.indices(image.shape[:2])
    weights = image[..., channel].astype(float)
    return np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()


@pytest.mark.parametrize('seed', range(8))
def test_scale_and_shift_move_spots_and_key_points_alike(seed):
    np.random.seed(seed)
    moved = RandomScaleShift()(spotted_sample())
    assert moved['img'].shape == (64, 64, 3)
    for k in range(3):
        np.testing.assert_allclose(spot_centre(moved['img'], k), moved['keypoints'][k], atol=0.3)


def test_scale_and_shift_stay_within_their_ranges():
    np.random.seed(0)
    transform, spans, middles = RandomScaleShift(), [], []
    for _ in range(300):
        points = transform(spotted_sample())['keypoints']
        spans.append((points[1] - points[0])[0] / 24)
        middles.append(points.mean(axis=0) - SPOTS.mean(axis=0))
    assert 0.70 < min(spans) < 0.80 and 1.10 < max(spans) < 1.23
    # 6 px of shift, 1 of rounding, and what scaling moves a point 8 px off the centre.
    assert 4 < np.abs(middles).max() < 6 + 1 + 2.5


def test_points_that_leave_the_picture_are_hidden():
    np.random.seed(0)
    moved = RandomScaleShift(scale=(3.0, 3.0), shift=0)(spotted_sample())
    inside = ((moved['keypoints'] > -0.5) & (moved['keypoints'] < 63.5)).all(axis=1)
    assert not inside.any()
    assert moved['keypoints_visible'].tolist() == [0, 0, 0]


def test_a_flip_mirrors_the_picture_and_swaps_left_and_right():
    sample = spotted_sample()
    sample['keypoints_visible'] = np.array([1, 0, 1], dtype=np.float32)
    flipped = RandomFlipKeypoints(prob=1.0)(sample)
    # What was the right spot (44, 12) is now the left one, at 63 - 44.
    assert flipped['keypoints'].tolist() == [[19, 12], [43, 12], [33, 50]]
    assert flipped['keypoints_visible'].tolist() == [0, 1, 1]
    np.testing.assert_allclose(spot_centre(flipped['img'], 1), [19, 12], atol=1e-6)


def test_two_flips_give_the_sample_back():
    flip, sample = RandomFlipKeypoints(prob=1.0), spotted_sample()
    twice = flip(flip(spotted_sample()))
    assert np.array_equal(twice['img'], sample['img'])
    assert np.array_equal(twice['keypoints'], sample['keypoints'])


@pytest.mark.parametrize('prob, low, high', [(0.0, 0, 0), (1.0, 200, 200), (0.5, 70, 130)])
def test_flips_are_as_frequent_as_asked_for(prob, low, high):
    random.seed(0)
    flip = RandomFlipKeypoints(prob)
    flips = sum(flip(spotted_sample())['keypoints'][2, 0] != 30 for _ in range(200))
    assert low <= flips <= high


def test_jitter_keeps_the_points_and_changes_the_picture():
    np.random.seed(0)
    sample = PhotometricJitter()(spotted_sample())
    assert np.array_equal(sample['keypoints'], SPOTS)
    assert sample['img'].dtype == np.uint8
    assert not np.array_equal(sample['img'], spotted_sample()['img'])


@pytest.mark.parametrize('bbox', [(10, 5, 54, 58), (-20, -30, 70, 90), (18, 10, 22, 14)])
def test_a_topdown_crop_shows_the_key_points_where_it_says(bbox):
    sample = spotted_sample()
    sample['bbox'] = np.array(bbox, dtype=np.float32)
    cropped = TopdownCrop(input_size=(96, 128))(sample)
    assert cropped['img'].shape == (128, 96, 3)
    assert np.array_equal(cropped['image_keypoints'], SPOTS)
    for k in np.flatnonzero(cropped['keypoints_visible']):
        # A large spot that the crop cuts has its centre elsewhere.
        if (np.abs(cropped['keypoints'][k] - 64) < 40).all():
            np.testing.assert_allclose(spot_centre(cropped['img'], k), cropped['keypoints'][k], atol=1.0)


def test_a_topdown_crop_keeps_the_aspect_ratio_to_a_pixel():
    cropped = TopdownCrop(input_size=(96, 128), padding=1.25)(spotted_sample())
    x1, y1, x2, y2 = cropped['input_box']
    assert abs((x2 - x1) * 128 / 96 - (y2 - y1)) <= 2
    assert (y2 - y1) == pytest.approx(1.25 * 44 / 96 * 128, abs=1)


def test_packed_targets_are_in_cells_and_hidden_points_have_weight_zero():
    sample = spotted_sample()
    sample['keypoints_visible'] = np.array([1, 0, 2], dtype=np.float32)
    packed = PackKeypointInputs()(GenerateHeatmap(heatmap_size=(32, 32), sigma=2.0)(sample))
    inputs, labels = packed['inputs'], packed['data_samples']
    assert tuple(inputs.shape) == (3, 64, 64)
    assert labels.gt_instance_labels.keypoint_weights.tolist() == [[1, 0, 1]]
    assert labels.gt_instance_labels.keypoint_cells[0, 0].tolist() == [9.75, 5.75]
    maps = labels.gt_fields.heatmaps
    assert tuple(maps.shape) == (3, 32, 32)
    assert maps[1].abs().sum() == 0 and maps[0].argmax() == 6 * 32 + 10
    assert labels.gt_instances.keypoints_visible.tolist() == [[1, 0, 2]]
    assert (labels.img_id, labels.id, labels.input_box.tolist()) == (7, 8, [0, 0, 64, 64])


def test_the_seed_decides_every_augmentation():
    def augment(seed):
        np.random.seed(seed)
        random.seed(seed)
        sample = spotted_sample()
        for transform in (RandomScaleShift(), RandomFlipKeypoints(), PhotometricJitter()):
            sample = transform(sample)
        return sample['img'].tobytes() + sample['keypoints'].tobytes()

    assert augment(3) == augment(3)
    assert augment(3) != augment(4)
