"""The automatic interval: a table of costs and what follows from them."""

import math

import pytest

from mmckpt.policy.auto_interval import FIRST_SAVE, AutoInterval


def auto_with(iteration, blocked, written, **kwargs):
    auto = AutoInterval(**kwargs)
    for _ in range(20):
        auto.observe_iter(iteration)
    auto.observe_save(blocked, written)
    return auto


@pytest.mark.parametrize('iteration, blocked, written, kwargs, expected', [
    (0.1, 0.05, 0.05, dict(max_overhead=0.01), 50),
    (0.1, 0.05, 0.05, dict(max_overhead=0.05), 10),
    (0.1, 0.001, 30.0, dict(max_overhead=0.01), 300),  # never below the time that one write takes
    (10.0, 0.01, 0.02, dict(max_overhead=0.01), 1),
    (1.0, 2.0, 8.0, dict(mtbf=24 * 3600.), math.ceil(math.sqrt(2 * 8 * 86400))),
    (1.0, 500.0, 500.0, dict(mtbf=100.), 500),
])
def test_interval_follows_from_costs(iteration, blocked, written, kwargs, expected):
    assert auto_with(iteration, blocked, written, **kwargs).interval() == expected


@pytest.mark.parametrize('iteration, blocked', [(0.01, 0.3), (0.5, 0.04), (3.0, 20.0)])
@pytest.mark.parametrize('bound', [0.001, 0.01, 0.1])
def test_cost_stays_under_the_bound_and_a_shorter_interval_would_not(iteration, blocked, bound):
    n = auto_with(iteration, blocked, blocked, max_overhead=bound).interval()
    assert blocked / (n * iteration) <= bound * (1 + 1e-6)
    assert n == 1 or blocked / ((n - 1) * iteration) > bound


def test_first_save_comes_early_and_is_said_to_be_unmeasured():
    auto = AutoInterval()
    assert auto.interval() == FIRST_SAVE and 'until the first save' in auto.describe()


def test_interval_adapts_when_saving_gets_slower_and_ignores_one_outlier():
    auto = auto_with(0.1, 0.1, 0.1)
    for _ in range(4):
        auto.observe_save(0.1, 0.1)
    auto.observe_save(50.0, 50.0)
    assert auto.interval() == 100
    for _ in range(5):
        auto.observe_save(0.4, 0.4)
    assert auto.interval() == 400


def test_words_name_interval_cost_and_loss():
    words = auto_with(0.6, 0.6, 1.0).describe()
    assert words.startswith('every 100 iterations (60 s)') and '600 ms' in words and '1.0 minutes' in words


@pytest.mark.parametrize('kwargs', [dict(max_overhead=0), dict(max_overhead=1.5), dict(mtbf=-1)])
def test_arguments_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match='must'):
        AutoInterval(**kwargs)
