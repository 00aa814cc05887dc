"""QuantileSketch keeps its promise of relative accuracy in bounded memory."""

import json
import math
import random

import pytest

from mmckpt.monitor import QuantileSketch

SHARES = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
DRAW = {
    'lognormal': lambda rng: rng.lognormvariate(0, 2),
    'normal': lambda rng: rng.gauss(0, 1),
    'negative': lambda rng: -rng.lognormvariate(3, 1),
    'half zero': lambda rng: rng.choice([0.0, rng.uniform(1e-6, 1e6)]),
}


@pytest.mark.parametrize('kind', DRAW)
def test_each_quantile_is_within_two_percent_of_the_exact_one(kind):
    rng = random.Random(kind)
    values = [DRAW[kind](rng) for _ in range(5000)]
    sketch = QuantileSketch()
    for start in range(0, len(values), 50):
        sketch.extend([*values[start:start + 50], math.nan, math.inf])
    ordered = sorted(values)
    exact = [ordered[math.floor(share * (len(ordered) - 1))] for share in SHARES]
    assert sketch.quantiles(SHARES) == pytest.approx(exact, rel=0.0201)


def test_the_order_and_the_blocks_do_not_matter():
    rng = random.Random(0)
    values = [rng.lognormvariate(0, 3) for _ in range(1000)]
    one, two = QuantileSketch(), QuantileSketch()
    one.extend(values)
    for value in sorted(values):
        two.extend([value])
    assert one.state_dict() == two.state_dict()


def test_memory_is_bounded_and_what_is_large_stays_accurate():
    sketch = QuantileSketch()
    for exponent in range(-300, 301):
        sketch.extend([10.0 ** exponent] * 3)
    assert len(json.dumps(sketch.state_dict())) < 5000
    assert sketch.quantiles([1.0])[0] == pytest.approx(1e300, rel=0.02)


def test_without_values_there_is_no_quantile():
    assert QuantileSketch().quantiles([0.5]) == [None]


@pytest.mark.parametrize('accuracy', [0.0, 1.0])
def test_a_wrong_accuracy_is_refused(accuracy):
    with pytest.raises(ValueError, match='between 0 and 1'):
        QuantileSketch(accuracy)
