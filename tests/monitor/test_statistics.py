"""Statistics agree with NumPy and know when the best was reached."""

import math

import numpy as np
import pytest

from mmckpt.monitor import MetricStatistics, RunningStatistics
from mmckpt.progress import Progress


def running(values):
    statistics = RunningStatistics()
    for value in values:
        statistics.update(value)
    return statistics.summary()


@pytest.mark.parametrize('values', [
    np.random.default_rng(0).normal(size=1000),
    np.random.default_rng(0).normal(size=1000) + 1e9,
    np.random.default_rng(1).lognormal(0, 3, 1000),
    np.array([4.0]),
    np.zeros(5),
], ids=['normal', 'far from zero', 'skewed', 'one', 'zeros'])
def test_the_numbers_are_those_of_numpy(values):
    found = running(values.tolist())
    assert found['mean'] == pytest.approx(values.mean(), rel=1e-12)
    assert found['std'] == pytest.approx(values.std(), rel=1e-7, abs=1e-12)
    assert (found['min'], found['max'], found['final']) == (values.min(), values.max(), values[-1])
    assert found['count'] == len(values)


def test_non_finite_values_are_counted_apart():
    found = running([1.0, math.nan, 3.0, math.inf, -math.inf])
    assert (found['mean'], found['std'], found['min'], found['max']) == (2.0, 1.0, 1.0, 3.0)
    assert (found['count'], found['non_finite'], found['final']) == (2, 3, -math.inf)


def test_without_a_finite_value_there_are_no_numbers():
    assert running([]) == dict(mean=None, std=None, min=None, max=None, final=None, count=0, non_finite=0)
    assert running([math.inf])['mean'] is None


@pytest.mark.parametrize('rule, values, best, epoch', [
    ('greater', [0.2, 0.7, 0.7, 0.5], 0.7, 2),
    ('less', [2.0, 0.0, 1.0], 0.0, 2),
    ('greater', [math.nan, 0.1], 0.1, 2),
    ('less', [-math.inf, 0.1], 0.1, 2),
    ('greater', [math.nan], None, None),
    (None, [1.0, 2.0], None, None),
])
def test_the_best_is_the_first_finite_value_that_no_other_beats(rule, values, best, epoch):
    statistics = MetricStatistics(rule)
    for number, value in enumerate(values, 1):
        statistics.update(value, Progress(number, 10 * number))
    found = statistics.summary()
    assert (found['best'], found['best_epoch']) == (best, epoch)
    assert found['best_iter'] == (None if epoch is None else 10 * epoch)
