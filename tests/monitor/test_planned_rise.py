"""What follows a planned rise of the learning rate is no fault, unless all that was learnt is lost."""

import random

import pytest

from mmckpt.monitor import DivergenceDetector, GradientDetector, PerformanceDropDetector, SpikeDetector, TrainingMonitor
from mmckpt.monitor.blocks import summarise
from mmckpt.progress import Progress

RISE = 400


def noisy(levels, seed=0):
    rng = random.Random(seed)
    return [level * rng.lognormvariate(0, 0.15) for level in levels]


def cycle(after):
    """A loss that falls from 2 to 0.05, and the levels after a warm restart."""
    return noisy([0.05 + 1.95 * 0.985 ** step for step in range(RISE)] + after)


def findings(detector, curve, planned=True):
    found = []
    for step, value in enumerate(curve, 1):
        if planned and step == RISE + 1:
            detector.expect_rise(Progress(0, RISE))
        found += detector.update({'loss': value}, Progress(0, step))
    return [finding for finding in found if finding.progress.iter > RISE]


def severities(*args, **kwargs):
    return {finding.severity for finding in findings(*args, **kwargs)}


def test_a_spike_after_a_warm_restart_is_an_info_and_says_so():
    curve = cycle([0.8 * 0.99 ** step + 0.1 for step in range(300)])
    assert 'warning' in severities(SpikeDetector(), curve, planned=False)
    found = findings(SpikeDetector(), curve)
    assert {f.severity for f in found} == {'info'}
    assert all('after a planned rise of the learning rate' in f.message for f in found)
    assert {f.kind for f in found} == {'loss_spike', 'loss_level'}


def test_a_spike_above_the_level_of_the_start_is_none_that_a_restart_explains():
    (first, *_) = findings(SpikeDetector(), cycle([30.0] * 60))
    assert (first.progress.iter, first.severity) == (RISE + 1, 'warning')


def test_a_spike_long_after_a_warm_restart_is_a_spike():
    found = findings(SpikeDetector(), cycle([0.05] * 150 + [0.9] * 10))
    assert found[0].severity == 'warning' and 'planned' not in found[0].message


def test_an_explicit_factor_is_obeyed_after_a_warm_restart_too():
    assert severities(SpikeDetector(factor=2.0), cycle([0.8] * 20)) == {'warning'}


@pytest.mark.parametrize('level, fires', [(0.8, False), (1.95, True), (6.0, True)])
def test_a_divergence_after_a_warm_restart_has_lost_three_quarters_of_the_gain(level, fires):
    curve = cycle([level] * 600)
    assert severities(DivergenceDetector(), curve, planned=False), 'it is one without a plan'
    found = findings(DivergenceDetector(), curve)
    assert bool(found) == fires
    assert not fires or found[0].progress.iter == RISE + 150


def test_a_divergence_after_the_loss_has_come_down_again_is_judged_as_ever():
    found = findings(DivergenceDetector(), cycle([0.8] * 300 + [0.05] * 100 + [0.8] * 200))
    assert found[0].progress.iter == RISE + 550


@pytest.mark.parametrize('after, planned, fires', [(0.8, True, False), (0.8, False, True), (50.0, True, True)])
def test_gradients_may_be_again_what_they_were_at_the_start(after, planned, fires):
    detector, found = GradientDetector(), []
    for block, norm in enumerate([1.0, 0.5, *[0.02] * 20, *[after] * 8], 1):
        if planned and block == 23:
            detector.expect_rise(Progress(0, 1100))
        found += detector.update({'grad_norm': summarise([norm])}, Progress(0, 50 * block))
    assert bool(found) == fires


def drops(values, rise_after=None, metric='AP', **kwargs):
    detector, found = PerformanceDropDetector(metric, **kwargs), []
    for number, value in enumerate(values, 1):
        found += detector.update(value if isinstance(value, dict) else {metric: value}, Progress(number, number))
        if number == rise_after:
            detector.expect_rise(Progress(number, number))
    return [finding.severity for finding in found]


def test_a_metric_that_falls_after_a_warm_restart_is_an_info_until_it_has_recovered():
    learnt, cost = [0.2, 0.5, 0.7, 0.8], [0.5, 0.45, 0.5, 0.55, 0.6]
    assert 'warning' in drops([*learnt, *cost])
    assert set(drops([*learnt, *cost], rise_after=4)) == {'info'}
    assert drops([*learnt, 0.5, 0.2], rise_after=4) == ['info', 'warning'], 'it has lost all'
    assert drops([*learnt, 0.5, 0.6, 0.7, 0.79, 0.4], rise_after=4)[-1] == 'warning', 'it had recovered'


@pytest.mark.parametrize('values, found', [
    pytest.param([0.4, 0.2, 0.3], ['info', 'info'], id='a low percentage, or a fraction that nobody knows yet'),
    pytest.param([0.4, 0.42, 0.41, 0.2], ['warning'], id='a fraction by now'),
    pytest.param([0.88, 0.9, 0.3], ['warning'], id='a fraction'),
    pytest.param([{'top1': 0.4, 'top5': 1.9}, {'top1': 0.9, 'top5': 3.8}, *[{'top1': 0.3, 'top5': 1.2}] * 5], [],
                 id='a percentage, as its sister shows'),
    pytest.param([{'top1': 0.4, 'psnr': 30.0}, {'top1': 0.42, 'psnr': 31.0}] * 2 + [{'top1': 0.1, 'psnr': 30.0}],
                 ['warning'], id='another metric shows nothing'),
    pytest.param([0.4, 0.9, 39.0, 35.0], [], id='a percentage, as its own values show'),
])
def test_a_percentage_below_one_is_told_from_a_fraction(values, found):
    assert drops(values, metric='top1') == found


def test_the_monitor_tells_all_detectors_of_a_planned_rise_and_a_resume_keeps_it():
    monitors = [TrainingMonitor({'spike': SpikeDetector()}) for _ in range(2)]
    curve = cycle([0.8] * 40)
    for step, value in enumerate(curve[:RISE], 1):
        monitors[0].after_iter({'loss': value}, Progress(0, step))
    monitors[0].expect_rise(Progress(0, RISE))
    monitors[1].load_state_dict(monitors[0].state_dict())
    seen = [f.severity for step, value in enumerate(curve[RISE:], RISE + 1)
            for f in monitors[1].after_iter({'loss': value}, Progress(0, step)).findings]
    assert set(seen) == {'info'}
