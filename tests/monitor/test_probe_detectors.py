"""Detectors over measurements: learning rate, idle parameters, times, memory, GPU."""

import math
import random

import pytest

from mmckpt.monitor import (
    GpuIdleDetector,
    IdleParametersDetector,
    LearningRateDetector,
    MemoryGrowthDetector,
    SlowDataDetector,
    SlowingDetector,
)
from mmckpt.progress import Progress

MEBI = 2 ** 20


def feed(detector, looks):
    """Feed measurements; return (number of the look, finding)."""
    return [(number, finding) for number, values in enumerate(looks, 1)
            for finding in detector.update(values, Progress(0, 50 * number))]


def test_a_learning_rate_of_zero_counts_only_if_it_stays():
    assert feed(LearningRateDetector(), [dict(lr=0.0), dict(lr=0.1), dict(lr=0.0), {}, dict(lr=1e-12)]) == []
    ((number, finding),) = feed(LearningRateDetector(), [dict(lr=0.1), dict(lr=0.0), dict(lr=0.0)])
    assert (number, finding.kind, finding.severity) == (3, 'lr_zero', 'warning')


def test_idle_parameters_are_said_once_and_again_only_where_there_are_new_ones():
    looks = [{'a': 20.0, 'b': 0.0}, {'a': 20.0, 'b': 0.0}, {'a': 0.0, 'b': 0.0}, {'a': 5.0, 'b': 5.0}]
    found = feed(IdleParametersDetector(), looks)
    assert [(number, finding.numbers['idle']) for number, finding in found] == [(1, 1.0), (3, 2.0)]
    assert 'had none in 20 iterations: a.' in found[1][1].message


def test_many_idle_parameters_make_a_short_message():
    ((_, finding),) = feed(IdleParametersDetector(), [{f'layer{i}': 0.0 for i in range(100)}])
    assert '100 of 100' in finding.message and len(finding.message) < 200


def times(*pairs):
    return [dict(time=time, data_time=data) for time, data in pairs]


def test_waiting_for_data_counts_if_it_is_most_of_the_time_long_and_lasts():
    assert feed(SlowDataDetector(), times((0.2, 0.15), (0.2, 0.01), (0.2, 0.15))) == []
    assert feed(SlowDataDetector(), times(*[(0.2, 0.08)] * 9)) == [], 'less than half'
    assert feed(SlowDataDetector(), times(*[(0.004, 0.003)] * 9)) == [], 'a few milliseconds'
    ((number, finding),) = feed(SlowDataDetector(), times((0.2, 0.15), (0.2, 0.15)))
    assert (number, finding.kind, finding.severity) == (2, 'slow_data', 'warning')


def jitter(values, spread, seed):
    rng = random.Random(seed)
    return times(*((value * rng.lognormvariate(0, spread), 0.0) for value in values))


@pytest.mark.parametrize('seed', range(10))
def test_iterations_that_take_longer_and_longer_are_told_from_a_step_and_from_noise(seed):
    steady = feed(SlowingDetector(), jitter([0.1 + 0.01 * i for i in range(30)], 0.1, seed))
    assert steady and steady[0][1].severity == 'warning' and steady[0][0] < 30
    step = feed(SlowingDetector(), jitter([0.1] * 30 + [0.25] * 30, 0.1, seed))
    assert step and {finding.severity for _, finding in step} == {'info'}
    assert feed(SlowingDetector(), jitter([0.1] * 60, 0.15, seed)) == []


def memory(values, **more):
    return [dict(memory=value * MEBI, **more) for value in values]


def settling(total, n=40):
    return [1000 + total * (1 - math.exp(-i / 3)) for i in range(n)]


@pytest.mark.parametrize('values', [
    [1000] * 40, settling(500), [1000] * 5 + [1600] * 35, [1000 + 400 * (i % 2) for i in range(40)],
    [1000 + 1.0 * i for i in range(40)], [1000, 1200, 1350, 1400] + [1401] * 36,
    [1000 + 200 * (i // 15) for i in range(60)],
], ids=['still', 'settles', 'one step', 'up and down', 'a few MiB', 'start', 'rare steps'])
def test_memory_that_settles_or_swings_is_no_leak(values):
    assert feed(MemoryGrowthDetector(), memory(values)) == []


def test_a_leak_is_found_with_its_rate_and_what_is_left():
    noise = random.Random(0)
    looks = memory([1000 + 20 * i + noise.uniform(-5, 5) for i in range(14)], available=1000.0 * MEBI)
    found = feed(MemoryGrowthDetector(), looks)
    assert found[0][0] == 12 and found[0][1].severity == 'warning'
    assert found[0][1].numbers['bytes_an_iter'] / MEBI == pytest.approx(0.4, rel=0.1)
    assert found[0][1].numbers['iters_left'] == pytest.approx(2500, rel=0.1)


def test_a_leak_on_the_gpu_is_named_so():
    looks = [dict(gpu_memory=(1000 + 20 * i) * MEBI, memory=1000.0 * MEBI) for i in range(12)]
    ((_, finding),) = feed(MemoryGrowthDetector(), looks)
    assert finding.subject == 'gpu_memory' and finding.message.startswith('GPU memory grows')


def test_an_idle_gpu_is_an_info_and_one_that_is_not_known_is_none():
    assert feed(GpuIdleDetector(), [{}] * 50) == []
    assert feed(GpuIdleDetector(), [dict(gpu_utilization=90.0)] * 50) == []
    found = feed(GpuIdleDetector(), [dict(gpu_utilization=5.0)] * 21)
    assert [number for number, _ in found] == [20, 21] and found[0][1].severity == 'info'


@pytest.mark.parametrize('kind, kwargs', [
    (LearningRateDetector, dict(probes=0)), (IdleParametersDetector, dict(iters=0)),
    (IdleParametersDetector, dict(iters=20, interval=10)), (SlowDataDetector, dict(share=1.0)),
    (SlowDataDetector, dict(blocks=0)), (SlowingDetector, dict(factor=1.0)), (SlowingDetector, dict(window=7)),
    (MemoryGrowthDetector, dict(window=7)), (MemoryGrowthDetector, dict(megabytes=-1.0)),
    (GpuIdleDetector, dict(below=0.0)), (GpuIdleDetector, dict(window=0))])
def test_wrong_arguments_are_refused(kind, kwargs):
    with pytest.raises(ValueError, match='must be'):
        kind(**kwargs)
