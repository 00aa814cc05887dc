"""Depth metrics against scikit-learn and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, PixelData
from sklearn.metrics import mean_absolute_error, mean_absolute_percentage_error, root_mean_squared_error

from mmckpt.evaluation import DepthMetric
from mmckpt.evaluation.depth import NAMES


def sample(found, truth, **ids):
    return dict(pred_depth_map=dict(data=np.array(found, dtype=np.float32)),
                gt_depth_map=dict(data=np.array(truth, dtype=np.float32)), **ids)


def random_samples(count=9, seed=0):
    rng = np.random.RandomState(seed)
    samples = []
    for number in range(count):
        truth = rng.uniform(0.5, 8, (1, 6, 7))
        truth[rng.uniform(size=truth.shape) < 0.2 + number / 20] = rng.choice([np.nan, 0, np.inf])
        found = np.nan_to_num(truth, nan=1, posinf=1) * rng.uniform(0.6, 1.7, truth.shape) + 0.1
        samples.append(sample(found, truth, img_id=number, id=number))
    return samples


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


def test_errors_are_those_of_scikit_learn_averaged_over_samples():
    samples, expected = random_samples(), {name: [] for name in NAMES[:3]}
    for s in samples:
        truth, found = (s[f'{kind}_depth_map']['data'].astype(np.float64) for kind in ('gt', 'pred'))
        valid = np.isfinite(truth) & (truth > 0)
        for name, function in (('rmse', root_mean_squared_error), ('mae', mean_absolute_error),
                               ('abs_rel', mean_absolute_percentage_error)):
            expected[name].append(function(truth[valid], found[valid]))
    metrics = evaluate(DepthMetric(), samples)
    assert tuple(metrics) == NAMES
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(np.mean(values), rel=1e-12), name


def test_every_metric_by_hand():
    # Ratios 1.2, 1.5, 1.9, 2.5 (1.25^2 = 1.5625, 1.25^3 = 1.953125).
    metrics = evaluate(DepthMetric(), [sample([[2.4, 6.0, 3.8, 4.0]], [[2.0, 4.0, 2.0, 10.0]])])
    errors = [0.4, 2.0, 1.8, -6.0]
    expected = dict(
        rmse=math.sqrt((0.16 + 4 + 3.24 + 36) / 4), mae=sum(map(abs, errors)) / 4,
        abs_rel=(0.2 + 0.5 + 0.9 + 0.6) / 4, sq_rel=(0.08 + 1 + 1.62 + 3.6) / 4, delta1=0.25, delta2=0.5, delta3=0.75)
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_a_sample_weighs_the_same_whatever_its_number_of_valid_pixels():
    samples = [sample([[2.0] * 10], [[1.0] * 10]), sample([[1.0] * 10], [[1.0] + [np.nan] * 9])]
    assert evaluate(DepthMetric(), samples)['mae'] == 0.5


@pytest.mark.parametrize('truth', [np.nan, np.inf, -np.inf, 0.0, -3.0, 90.0])
def test_pixels_without_a_true_depth_within_the_limits_do_not_count(truth):
    metric = DepthMetric(min_depth=0.5, max_depth=80)
    assert evaluate(metric, [sample([[3.0, 7.0]], [[2.0, truth]])])['mae'] == 1.0


def test_predictions_are_cut_to_the_limits():
    metric = DepthMetric(min_depth=1, max_depth=10)
    assert evaluate(metric, [sample([[-5.0, 500.0]], [[2.0, 8.0]])])['mae'] == pytest.approx((1 + 2) / 2)


def test_median_scaling_forgives_a_factor_and_nothing_else():
    truth = [[1.0, 2.0, 4.0]]
    assert evaluate(DepthMetric(median_scaling=True), [sample([[3.0, 6.0, 12.0]], truth)])['rmse'] == 0
    # Medians 2 and 3: 1.5 * (2, 2, 2.67) - (1, 2, 4) would be off; by hand with factor 2/3.
    metrics = evaluate(DepthMetric(median_scaling=True), [sample([[3.0, 3.0, 6.0]], truth)])
    assert metrics['mae'] == pytest.approx((1 + 0 + 0) / 3)
    assert evaluate(DepthMetric(), [sample([[3.0, 6.0, 12.0]], truth)])['abs_rel'] == 2


def test_a_prediction_of_nothing_is_an_error_not_a_crash_under_median_scaling():
    assert evaluate(DepthMetric(median_scaling=True), [sample([[0.0, 0.0]], [[1.0, 2.0]])])['delta1'] == 0


def test_samples_without_a_valid_pixel_do_not_count_and_nothing_at_all_is_nan():
    empty = sample([[1.0]], [[np.nan]])
    assert evaluate(DepthMetric(), [empty, sample([[1.5]], [[1.0]])])['mae'] == 0.5
    assert all(math.isnan(value) for value in evaluate(DepthMetric(), [empty]).values())


def test_a_sample_that_was_repeated_for_another_rank_counts_once_and_order_does_not_matter():
    samples = random_samples()
    once = evaluate(DepthMetric(), samples)
    assert evaluate(DepthMetric(), samples + samples[:4]) == once
    assert evaluate(DepthMetric(), samples[::-1]) == once


def test_it_reads_what_a_model_of_mmengine_gives():
    element = BaseDataElement(gt_depth_map=PixelData(data=torch.full((1, 2, 2), 2.0)),
                              pred_depth_map=PixelData(data=torch.full((1, 2, 2), 3.0)))
    evaluator = Evaluator(DepthMetric(prefix='depth'))
    evaluator.process(data_samples=[element])
    assert evaluator.evaluate(1)['depth/abs_rel'] == 0.5


def test_maps_of_different_shape_are_an_error():
    with pytest.raises(ValueError, match=r'\(1, 2\), found \(2, 2\)'):
        evaluate(DepthMetric(), [sample([[1.0, 1], [1, 1]], [[1.0, 1]])])


@pytest.mark.parametrize('limits', [dict(min_depth=0), dict(min_depth=2, max_depth=2), dict(max_depth=-1)])
def test_bad_limits_are_refused_at_construction(limits):
    with pytest.raises(ValueError, match='0 < min_depth < max_depth'):
        DepthMetric(**limits)
