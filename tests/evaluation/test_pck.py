"""PCK, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmckpt.evaluation import PCK
from mmckpt.registry import METRICS

ZEROS = [[0, 0]] * 4


def sample(found, truth, visible, box=(0, 0, 20, 10), **ids):
    return dict(
        pred_instances=dict(keypoints=np.array([found], dtype=np.float32)),
        gt_instances=dict(
            keypoints=np.array([truth], dtype=np.float32),
            keypoints_visible=np.array([visible]),
            bboxes=np.array([box], dtype=np.float32)), **ids)


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


@pytest.mark.parametrize('threshold, expected', [(0.1, 0.5), (0.2, 0.75), (0.049, 0.25), (1.0, 1.0)])
def test_a_key_point_counts_within_threshold_times_the_longer_side(threshold, expected):
    # 20 px wide: distances of 0, 1, 3 and 5 px are 0, 0.05, 0.15 and 0.25.
    found = sample([[0, 0], [1, 0], [0, 3], [3, 4]], ZEROS, [1, 1, 1, 1])
    assert evaluate(PCK(threshold=threshold), [found])['PCK'] == expected


def test_exactly_the_threshold_counts():
    assert evaluate(PCK(threshold=0.25), [sample([[3, 4]], [[0, 0]], [1])])['PCK'] == 1.0


def test_key_points_without_a_label_do_not_count():
    samples = [sample([[0, 0], [90, 0]], [[0, 0], [0, 0]], [1, 0]),
               sample([[90, 0], [0, 0]], [[0, 0], [0, 0]], [1, 0])]
    metrics = evaluate(PCK(per_keypoint=True), samples)
    assert metrics['PCK'] == metrics['PCK_0'] == 0.5
    assert math.isnan(metrics['PCK_1'])


def test_the_mean_is_over_types_not_over_labels():
    # First type: 1 of 3 found; second: 1 of 1. Labels would give 2 of 4.
    samples = [sample([[0, 0], [0, 0]], [[0, 0], [0, 0]], [1, 1]),
               sample([[90, 0], [0, 0]], [[0, 0], [0, 0]], [1, 0]),
               sample([[90, 0], [0, 0]], [[0, 0], [0, 0]], [1, 0])]
    assert evaluate(PCK(), samples)['PCK'] == pytest.approx((1 / 3 + 1) / 2)


def test_per_keypoint_shares_carry_the_data_sets_names():
    metric = PCK(per_keypoint=True)
    metric.dataset_meta = dict(keypoint_names=['nose', 'tail'])
    metrics = evaluate(metric, [sample([[0, 0], [90, 0]], [[0, 0], [0, 0]], [1, 1])])
    assert metrics == {'PCK': 0.5, 'PCK_nose': 1.0, 'PCK_tail': 0.0}


def test_head_size_is_the_distance_of_its_two_key_points():
    metric = PCK(threshold=0.5, normalizer='head', normalizer_keypoints=(0, 1))
    truth = [[0, 0], [0, 8], [5, 5]]
    samples = [sample([[0, 0], [0, 8], [5, 9]], truth, [1, 1, 1]),      # 4 px off, 4 allowed
               sample([[0, 0], [0, 8], [5, 9.1]], truth, [1, 1, 1]),
               sample([[9, 9], [9, 9], [9, 9]], truth, [1, 0, 1])]      # no head, no size: left out
    assert evaluate(metric, samples)['PCK'] == pytest.approx((1 + 1 + 0.5) / 3)


def test_torso_size_varies_by_instance():
    # Shoulder to opposite hip: 10 px, then 20 px; the third key point is 3 px off each time, 0.2 of a torso allowed.
    metric = PCK(threshold=0.2, normalizer='torso', normalizer_keypoints=(0, 1), per_keypoint=True)
    samples = [sample([[0, 0], [6, 8], [3, 0]], [[0, 0], [6, 8], [0, 0]], [1, 1, 1]),
               sample([[0, 0], [12, 16], [3, 0]], [[0, 0], [12, 16], [0, 0]], [1, 1, 1])]
    assert evaluate(metric, samples) == {'PCK': pytest.approx(2.5 / 3), 'PCK_0': 1.0, 'PCK_1': 1.0, 'PCK_2': 0.5}


def test_several_instances_in_a_sample_and_tensors_are_fine():
    both = dict(
        pred_instances=dict(keypoints=torch.tensor([[[0.0, 0.0]], [[50.0, 0.0]]])),
        gt_instances=dict(keypoints=torch.zeros(2, 1, 2), keypoints_visible=torch.ones(2, 1),
                          bboxes=torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]])))
    assert evaluate(PCK(), [both])['PCK'] == 0.5


def test_a_sample_that_was_repeated_for_another_rank_counts_once():
    hit = sample([[0, 0]], [[0, 0]], [1], img_id=1, id=1)
    miss = sample([[90, 0]], [[0, 0]], [1], img_id=2, id=2)
    assert evaluate(PCK(), [hit, miss, miss])['PCK'] == 0.5


def test_two_persons_of_one_picture_are_two_samples():
    hit = sample([[0, 0]], [[0, 0]], [1], img_id=1, id=1)
    miss = sample([[90, 0]], [[0, 0]], [1], img_id=1, id=2)
    assert evaluate(PCK(), [hit, miss])['PCK'] == 0.5


def test_nothing_labelled_is_nan_not_zero():
    assert math.isnan(evaluate(PCK(), [sample([[0, 0]], [[0, 0]], [0])])['PCK'])


@pytest.mark.parametrize('prefix, key', [(None, 'PCK'), ('pose', 'pose/PCK')])
def test_the_name_is_pck_unless_a_prefix_is_given(prefix, key):
    metric = METRICS.build(dict(type='mmckpt.PCK', prefix=prefix))
    assert list(evaluate(metric, [sample([[0, 0]], [[0, 0]], [1])])) == [key]


@pytest.mark.parametrize('arguments, message', [
    (dict(threshold=0), 'above 0, found 0'),
    (dict(normalizer='hand'), "found 'hand'"),
    (dict(normalizer='torso'), 'normalizer_keypoints'),
    (dict(normalizer_keypoints=(0, 1)), 'normalizer_keypoints'),
])
def test_bad_arguments_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        PCK(**arguments)
