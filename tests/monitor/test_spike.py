"""SpikeDetector fires on jumps of a loss and on nothing else."""

import math
import random

import pytest

from mmckpt.monitor import SpikeDetector
from mmckpt.monitor.spike import robust_distance
from mmckpt.progress import Progress


def feed(detector, values, name='loss', start=1):
    """Return (iteration, kind) of every finding over a series of one term."""
    found = []
    for step, value in enumerate(values, start):
        found += [(f.progress.iter, f.kind) for f in detector.update({name: value}, Progress(0, step))]
    return found


def noise(n, spread, seed=0, level=1.0):
    rng = random.Random(seed)
    return [level * rng.lognormvariate(0, spread) for _ in range(n)]


@pytest.mark.parametrize('ratio, fires', [(1.0, False), (2.0, False), (2.01, True), (50.0, True)])
def test_an_explicit_factor_alone_decides(ratio, fires):
    noisy = [0.5, 1.5] * 10
    assert bool(feed(SpikeDetector(factor=2.0), [*noisy, ratio])) == fires


def test_a_finding_prints_current_value_recent_average_and_ratio():
    detector = SpikeDetector(factor=2.0)
    feed(detector, [2.0] * 20)
    (finding,) = detector.update({'loss': 7.0}, Progress(3, 21))
    assert finding.numbers == {'current': 7.0, 'average': 2.0, 'ratio': 3.5}
    assert finding.message == ('Loss spike at iter 21: loss is 7.000000, its recent average 2.000000, '
                               'ratio 3.50.')
    assert (finding.kind, finding.severity, finding.subject) == ('loss_spike', 'warning', 'loss')
    assert finding.progress == Progress(3, 21)


@pytest.mark.parametrize('spread, value, fires', [
    (0.05, 1.9, False),     # under twice the average
    (0.05, 2.3, True),      # calm loss: twice the average is far out
    (0.5, 2.3, False),      # noisy loss: it is ordinary
    (0.5, 60.0, True),
])
def test_the_default_fires_only_where_the_noise_allows_it(spread, value, fires):
    assert bool(feed(SpikeDetector(), [*noise(60, spread), value])) == fires


@pytest.mark.parametrize('spread', [0.05, 0.2, 0.5, 1.0, 1.5])
def test_no_false_alarm_in_lognormal_noise_of_any_width(spread):
    assert feed(SpikeDetector(), noise(20_000, spread, seed=7)) == []


@pytest.mark.parametrize('curve', [
    pytest.param([5 * math.exp(-i / 20) + 0.05 for i in range(400)], id='fast fall of the first epochs'),
    pytest.param([0.2 * 1.01 ** i for i in range(800)], id='slow rise to 500 times the start'),
    pytest.param([0.0] * 200 + [0.4] * 200, id='term that is switched on'),
    pytest.param(([0.0] * 19 + [0.3]) * 20, id='term that is mostly zero'),
    pytest.param([1.0] * 200, id='constant'),
])
def test_shapes_that_are_no_spikes_stay_silent(curve):
    rng = random.Random(1)
    assert feed(SpikeDetector(), [v * rng.lognormvariate(0, 0.1) for v in curve]) == []


def test_a_spike_on_top_of_a_slow_rise_is_found():
    rise = [0.2 * 1.01 ** i for i in range(300)]
    assert feed(SpikeDetector(), [*rise, 5 * rise[-1]]) == [(301, 'loss_spike')]


def test_one_spike_does_not_hide_the_next():
    detector = SpikeDetector()
    curve = [*noise(60, 0.1), 500.0, *noise(5, 0.1, seed=1), 3.5]
    assert feed(detector, curve) == [(61, 'loss_spike'), (67, 'loss_spike')]


def test_five_values_in_a_row_count_where_one_would_be_noise():
    high = [30.0] * 6
    assert feed(SpikeDetector(), [*noise(60, 0.8), high[0], *noise(5, 0.8, seed=1)]) == []
    assert feed(SpikeDetector(), [*noise(60, 0.8), *high]) == [(65, 'loss_spike'), (66, 'loss_spike')]


def test_a_calm_value_ends_a_run_of_high_ones():
    interrupted = [30.0] * 4 + [1.0] + [30.0] * 4
    assert feed(SpikeDetector(), [*noise(60, 0.8), *interrupted]) == []


def test_a_term_that_was_zero_has_no_ratio_to_judge_by():
    assert feed(SpikeDetector(factor=2.0), [0.0] * 20 + [0.4]) == []


def test_a_loss_that_stays_high_is_said_once_and_becomes_the_baseline():
    found = feed(SpikeDetector(), [*noise(60, 0.1), *noise(300, 0.1, level=8.0)])
    assert [kind for _, kind in found] == ['loss_spike'] * 49 + ['loss_level']
    assert found[-1] == (110, 'loss_level')


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_non_finite_values_neither_fire_nor_enter_the_average(bad):
    for factor in (None, 2.0):
        detector = SpikeDetector(factor=factor)
        assert feed(detector, [bad, *[1.0] * 60, bad, bad]) == []
        assert feed(detector, [2.5], start=100) == [(100, 'loss_spike')]


def test_a_negative_loss_is_judged_by_its_rise():
    detector = SpikeDetector(factor=2.0)
    assert feed(detector, [-1.0] * 20 + [-0.5, -0.1]) == []
    assert feed(detector, [1.5], start=30) == [(30, 'loss_spike')]


@pytest.mark.parametrize('name, watched', [('loss', True), ('heatmap_loss', True), ('loss_cls', True),
                                           ('G_Loss', True), ('acc', False), ('grad_norm', False)])
def test_losses_are_watched_and_other_scalars_are_not(name, watched):
    assert bool(feed(SpikeDetector(factor=2.0), [1.0] * 20 + [9.0], name=name)) == watched


def test_every_term_has_its_own_baseline():
    detector = SpikeDetector()
    for step in range(1, 61):
        detector.update({'loss': 100.0, 'loss_b': 0.01}, Progress(0, step))
    (finding,) = detector.update({'loss': 100.04, 'loss_b': 0.05}, Progress(0, 61))
    assert finding.subject == 'loss_b'


@pytest.mark.parametrize('arguments, first', [(dict(), 51), (dict(window=20), 21), (dict(factor=2.0), 11),
                                              (dict(factor=2.0, warmup=3), 4)])
def test_nothing_fires_before_the_warm_up_is_over(arguments, first):
    for n in range(first):
        assert bool(feed(SpikeDetector(**arguments), [1.0] * n + [9.0])) == (n >= first - 1), n


@pytest.mark.parametrize('arguments, words', [
    (dict(factor=1.0), 'factor must be a number above 1, but got 1.0'),
    (dict(factor=math.nan), 'factor'),
    (dict(factor=math.inf), 'factor'),
    (dict(window=9), 'window must be at least 10'),
    (dict(n_std=0.0), 'n_std'),
    (dict(warmup=0), 'warmup must be between 1 and window=50'),
    (dict(warmup=51), 'warmup'),
])
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        SpikeDetector(**arguments)


def test_memory_is_bounded_by_the_window():
    detector = SpikeDetector()
    feed(detector, noise(5_000, 0.3))
    assert [len(values) for values in detector.state_dict()['windows'].values()] == [50]


def test_extreme_values_do_not_overflow():
    values = [5e-324, 1e308, 1e-300, 1.7e308] * 20
    assert math.isfinite(robust_distance(1.7e308, values))
    assert feed(SpikeDetector(), values) == []
