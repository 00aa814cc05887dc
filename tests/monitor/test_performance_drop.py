"""PerformanceDropDetector compares each validation with the best one."""

import math

import pytest

from mmckpt.monitor import PerformanceDropDetector
from mmckpt.progress import Progress


def epochs_that_fire(detector, values):
    return [epoch for epoch, value in enumerate(values, 1)
            if detector.update({detector.metric: value}, Progress(epoch, 10 * epoch))]


@pytest.mark.parametrize('arguments, values, fires', [
    (dict(threshold=0.05), [0.5, 0.7, 0.66, 0.64, 0.8, 0.7], [4, 6]),
    (dict(threshold=0.0), [0.5, 0.5, 0.49], [3]),
    (dict(threshold=0.25), [0.5, 0.75, 0.5, 0.49], [4]),
    (dict(threshold=0.5, rule='less'), [2.0, 1.0, 1.5, 1.6], [4]),
    (dict(), [0.7, 0.66, 0.64], [3]),
    pytest.param(dict(), [70.0, 66.0, 64.0], [3], id='a metric in percent'),
    pytest.param(dict(), [0.0, 0.0], [], id='0.0 is a value'),
    pytest.param(dict(), [0.7, math.nan, 0.6], [3], id='NaN is not judged and never the best'),
    pytest.param(dict(), [math.inf, 0.7, 0.6], [3], id='infinity is never the best'),
    pytest.param(dict(rule='less'), [1.0, math.inf], [2], id='infinitely bad is a drop'),
])
def test_it_fires_beyond_the_threshold_under_the_best(arguments, values, fires):
    assert epochs_that_fire(PerformanceDropDetector('m', **arguments), values) == fires


def test_a_finding_prints_current_value_best_and_drop():
    detector = PerformanceDropDetector('coco/AP', threshold=0.05)
    detector.update({'coco/AP': 0.75}, Progress(9, 900))
    (finding,) = detector.update({'coco/AP': 0.5}, Progress(12, 1200))
    assert finding.message == ('Performance drop at epoch 12, iter 1200: coco/AP is 0.5000, its best 0.7500 '
                               '(epoch 9, iter 900), drop 0.2500.')
    assert finding.numbers == {'current': 0.5, 'best': 0.75, 'drop': 0.25}


def test_a_validation_without_the_metric_changes_nothing():
    detector = PerformanceDropDetector('AP')
    detector.update({'AP': 0.7}, Progress(1, 10))
    before = detector.state_dict()
    assert detector.update({'PCK': 0.1}, Progress(2, 20)) == []
    assert detector.state_dict() == before


@pytest.mark.parametrize('arguments', [dict(rule='max'), dict(threshold=-0.1), dict(threshold=math.nan)])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PerformanceDropDetector('AP', **arguments)
