"""DivergenceDetector tells a loss that runs away from noise, from small losses and from a slow start."""

import math
import random

import pytest

from mmckpt.monitor import DivergenceDetector
from mmckpt.progress import Progress


def found(curve, **kwargs):
    detector = DivergenceDetector(**kwargs)
    return [(step, finding) for step, value in enumerate(curve, 1)
            for finding in detector.update({'loss': value}, Progress(0, step))]


def noisy(levels, spread=0.3, seed=0):
    rng = random.Random(seed)
    return [level * rng.lognormvariate(0, spread) for level in levels]


def around(level, n=10000, seed=1):
    rng = random.Random(seed)
    return [rng.gauss(level, 1.0) for _ in range(n)]


def falling(n=400, start=2.0, end=0.2):
    return [end + (start - end) * math.exp(-step / 80) for step in range(n)]


def test_a_jump_that_ends_in_nan_is_said_at_the_first_nan_and_once():
    curve = [*noisy(falling()), *[30.0] * 8, *[math.nan] * 100]
    ((step, finding),) = found(curve)
    assert (step, finding.severity, finding.kind) == (409, 'error', 'divergence')
    assert finding.numbers['peak'] == 30.0 and 'and is nan now' in finding.message


def test_a_nan_out_of_the_blue_is_no_divergence():
    assert found([*noisy(falling()), *[math.nan] * 100]) == []


@pytest.mark.parametrize('level, severity', [(1.2, 'warning'), (4.0, 'error')])
def test_a_rise_that_lasts_is_found_after_three_blocks_and_is_an_error_above_the_start(level, severity):
    results = found([*noisy(falling()), *noisy([level] * 300)])
    assert results[0][0] == 400 + 3 * 50 and results[0][1].severity == severity
    assert results[0][1].numbers['iterations'] == 150


@pytest.mark.parametrize('curve', [
    noisy(falling(2000), 0.5), noisy([0.7] * 2000, 0.8), noisy(falling(2000, 2.0, 1e-4), 1.0),
    # From next to nothing to twice of it: noise at the end of a training that has learnt all.
    [*falling(1000, 2.0, 0.001), *noisy([0.01] * 500)],
    # A warm-up, and a short bump.
    [*noisy([2.0 + step / 400 for step in range(400)]), *falling()], [*falling(), *[5.0] * 40, *noisy([0.2] * 400)],
    [-value for value in noisy([1.0 + step / 100 for step in range(1000)])],
    # No ratio says anything here: a critic's or a policy's loss.
    around(0.0), around(0.5),
], ids=['falling', 'level', 'to zero', 'tiny', 'warm-up', 'bump', 'negative', 'around zero', 'near zero'])
def test_ordinary_curves_raise_nothing(curve):
    assert found(curve) == []


def test_a_rise_that_leaves_the_noise_around_zero_is_found():
    results = found(around(0.0, 1000) + around(5.0, 300))
    assert results[0][0] == 1150 and results[0][1].severity == 'error'


@pytest.mark.parametrize('kwargs', [dict(factor=1.0), dict(factor=math.inf), dict(blocks=0)])
def test_wrong_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match='must be'):
        DivergenceDetector(**kwargs)


def test_a_run_without_a_total_loss_is_left_alone():
    assert DivergenceDetector().update({'d_loss': math.nan}, Progress(0, 1)) == []


@pytest.mark.parametrize('jump', [76, 99, 100, 101, 120])
def test_the_start_is_never_after_the_jump_nor_far_before_it(jump):
    detector = DivergenceDetector()
    curve = [1.0] * (jump - 1) + [9.0] * 300
    seen = [f for step, value in enumerate(curve, 1) for f in detector.update({'loss': value}, Progress(0, step))]
    assert jump - 100 < seen[0].numbers['start'] <= jump
