"""Detectors over epochs and validations: no progress, metrics at zero, overfitting."""

import random

import pytest

from mmckpt.monitor import OverfittingDetector, PerformanceDropDetector, PlateauDetector, ZeroMetricDetector
from mmckpt.progress import Progress

RULES = {'AP': 'greater', 'loss': 'less'}.get


def feed(detector, rounds):
    """Feed the values of each round; return (round, kind, severity, subject)."""
    return [(number, f.kind, f.severity, f.subject) for number, values in enumerate(rounds, 1)
            for f in detector.update(values, Progress(number, 10 * number))]


def series(name, values):
    return [{name: value} for value in values]


PLATEAUS = {
    'loss stands still': (series('train_loss', [2.3, 2.29, 2.3, 2.3]), [(4, 'no_progress', 'warning', 'train_loss')]),
    'loss has come down': (series('train_loss', [2.3, 1.0, 1.0, 1.0, 1.0]), [(5, 'plateau', 'info', 'train_loss')]),
    'loss goes on': (series('train_loss', [2.3 * 0.95 ** i for i in range(30)]), []),
    'metric stands still': (series('AP', [0.5, 0.5, 0.5, 0.5]), [(4, 'plateau', 'info', 'AP')]),
    'metric goes on': (series('AP', [0.1 * i for i in range(9)]), []),
    'less is better': (series('loss', [1.0, 0.5, 0.6, 0.7, 0.8]), [(5, 'plateau', 'info', 'loss')]),
    'no rule': (series('speed', [1.0] * 9), []),
    'NaN is no round': (series('AP', [0.5, float('nan'), float('nan'), float('nan')]), []),
}


@pytest.mark.parametrize('case', PLATEAUS)
def test_plateaus(case):
    rounds, expected = PLATEAUS[case]
    assert feed(PlateauDetector(rounds=3, rule_of=RULES), rounds) == expected


ZEROS = {
    'zero': (series('AP', [0.0] * 3), [3]),
    'zero and goes on': (series('AP', [0.0] * 5), [3, 4, 5]),
    'wakes up': (series('AP', [0.0, 0.0, 0.1, 0.0, 0.0]), []),
    'falls to zero': (series('AP', [0.4, 0.0, 0.0, 0.0]), [4]),
    'zero is good': (series('loss', [0.0] * 5), []),
}


@pytest.mark.parametrize('case', ZEROS)
def test_metrics_at_zero(case):
    rounds, expected = ZEROS[case]
    found = feed(ZeroMetricDetector(validations=3, rule_of=RULES), rounds)
    assert found == [(number, 'metric_zero', 'warning', 'AP') for number in expected]


def losses(train, val, name='loss'):
    return [{'train_loss': t, name: v} for t, v in zip(train, val)]


FALLING = [1.0, 0.8, 0.6, 0.4, 0.3, 0.2]
OVERFITTING = {
    'apart': (losses(FALLING, [1.0, 0.9, 1.0, 1.1, 1.2, 1.3]), [5, 6]),
    'prefixed': (losses(FALLING, [1.0, 0.9, 1.0, 1.1, 1.2, 1.3], 'val/loss'), [5, 6]),
    'together': (losses(FALLING, FALLING), []),
    'both rise': (losses(FALLING[::-1], [1.0, 0.9, 1.0, 1.1, 1.2, 1.3]), []),
    'a little': (losses(FALLING, [1.0, 0.9, 0.92, 0.93, 0.95, 0.97]), []),
    'back again': (losses(FALLING, [1.0, 0.9, 1.2, 1.3, 0.8, 0.7]), []),
    'no validation loss': (series('AP', [0.5] * 9), []),
}


@pytest.mark.parametrize('case', OVERFITTING)
def test_overfitting(case):
    rounds, expected = OVERFITTING[case]
    assert [row[0] for row in feed(OverfittingDetector(validations=3), rounds)] == expected


def test_overfitting_is_found_where_epochs_and_validations_come_apart():
    detector = OverfittingDetector(validations=3)
    apart = [values for both in losses(FALLING, [1.0, 0.9, 1.0, 1.1, 1.2, 1.3])
             for values in ({'train_loss': both['train_loss']}, {'loss': both['loss']})]
    assert [row[0] for row in feed(detector, apart)] == [10, 12]


def severities(values, **kwargs):
    return [row[2] for row in feed(PerformanceDropDetector('AP', **kwargs), series('AP', values))]


def test_by_default_a_drop_is_a_warning_only_where_it_is_no_noise():
    assert severities([0.5, 0.7, 0.63]) == ['info']
    assert severities([0.5, 0.7, 0.3]) == ['warning'], 'more than a third is lost'
    steady = [0.70 + 0.01 * (i % 2) for i in range(10)]
    assert severities([*steady, 0.6, 0.6, 0.6]) == ['info', 'info', 'warning'], 'it lasts'


def test_an_explicit_threshold_alone_decides():
    assert severities([0.5, 0.7, 0.63], threshold=0.05) == ['warning']


@pytest.mark.parametrize('seed', range(20))
def test_the_noise_of_a_small_validation_set_is_never_a_warning(seed):
    rng = random.Random(seed)
    levels = [0.8 * (1 - 0.7 ** epoch) for epoch in range(1, 31)]
    assert 'warning' not in severities([max(0.0, level + rng.gauss(0, 0.03)) for level in levels])


@pytest.mark.parametrize('kind, kwargs', [
    (PlateauDetector, dict(rounds=0)), (PlateauDetector, dict(min_delta=-1.0)),
    (ZeroMetricDetector, dict(validations=0)), (OverfittingDetector, dict(validations=0)),
    (OverfittingDetector, dict(rise=-0.1))])
def test_wrong_arguments_are_refused(kind, kwargs):
    with pytest.raises(ValueError, match='must be'):
        kind(**kwargs)
