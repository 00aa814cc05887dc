"""A plateau is a warning only where a training does nothing: not where it is slow, late, or had been trained before."""

import math
import random

import pytest

from mmckpt.monitor import PlateauDetector, TrainingMonitor
from mmckpt.progress import Progress

RULES = {'AP': 'greater', 'val/loss': 'less'}.get
ROUNDS = 10


def kinds(rounds, facts=None):
    """Feed rounds of values; return which kinds of findings there were about the training loss."""
    detector = PlateauDetector(rounds=ROUNDS, rule_of=RULES)
    return {f.kind for number, values in enumerate(rounds, 1)
            for f in detector.update({**values, **(facts or {})}, Progress(number, 10 * number))
            if f.subject == 'train_loss'}


def noisy(levels, spread=0.002, seed=0):
    rng = random.Random(seed)
    return [level * (1 + rng.gauss(0, spread)) for level in levels]


def losses(levels, **others):
    return [{'train_loss': value, **{name: series[i] for name, series in others.items()}}
            for i, value in enumerate(levels)]


FLAT = [2.3] * 15
MOVES, TRAINED, STILL = {'#weight_change': 0.02}, {'#pretrained': 1.0}, {'#weight_change': 1e-8}
START = {'#first_loss': 2.3, '#first_error': 0.01}


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('rounds, facts', [
    pytest.param(losses(FLAT), {}, id='nothing else is known'),
    pytest.param(losses(FLAT), {**START, **MOVES}, id='labels that do not belong to the samples'),
    pytest.param(losses(FLAT, AP=[0.1, 0.11, 0.09] * 5), MOVES, id='a metric at chance'),
    pytest.param(losses(FLAT, AP=[0.1] + [0.3] * 14), {**START, **STILL}, id='BN statistics alone improve a metric'),
    pytest.param(losses(FLAT), {**TRAINED, **STILL}, id='a fine-tuning that does not train'),
    pytest.param(losses([2.3 * (1 - 1e-7) ** i for i in range(15)]), MOVES, id='a fall that rounding could make'),
])
def test_a_training_that_does_nothing_is_warned_of(rounds, facts, seed):
    spread = 0 if rounds[1]['train_loss'] not in FLAT else 0.002
    rounds = [{**values, 'train_loss': loss}
              for values, loss in zip(rounds, noisy([r['train_loss'] for r in rounds], spread, seed))]
    assert kinds(rounds, facts) == {'no_progress'}


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('rounds, facts', [
    pytest.param(losses(FLAT), {**TRAINED, **MOVES}, id='a fine-tuning of good weights'),
    pytest.param(losses(FLAT), TRAINED, id='a fine-tuning whose weights cannot be looked at'),
    pytest.param(losses([2.3 * 0.9985 ** i for i in range(15)]), MOVES, id='a slow phase'),
    pytest.param(losses(FLAT), {**MOVES, '#first_loss': 2.45, '#first_error': 0.01}, id='all learnt in an epoch'),
    pytest.param(losses([2.3 + 0.01 * i for i in range(15)], AP=[0.3 - 0.2 * 0.7 ** i for i in range(15)]), MOVES,
                 id='a weight of a loss term that grows'),
    pytest.param(losses(FLAT, **{'val/loss': [3.0] + [2.5] * 14}), MOVES, id='a validation loss that fell'),
])
def test_a_training_that_is_slow_or_late_is_not(rounds, facts, seed):
    rounds = [{**values, 'train_loss': loss}
              for values, loss in zip(rounds, noisy([r['train_loss'] for r in rounds], seed=seed))]
    assert kinds(rounds, facts) <= {'plateau'}


def test_noise_that_looks_like_progress_does_not_hide_weights_that_stand_still():
    rounds = losses([2.3 * 0.985 ** i for i in range(ROUNDS + 1)])
    assert kinds(rounds, STILL) == {'no_progress'} and kinds(rounds[:-1], STILL) == set()
    assert kinds(rounds, MOVES) == set()


def test_weights_that_moved_before_a_resume_have_moved():
    before, after = PlateauDetector(rounds=3), PlateauDetector(rounds=3)
    for number in range(1, 4):
        before.update({'train_loss': 2.3, **TRAINED, '#weight_change': 0.1}, Progress(number, number))
    after.load_state_dict(before.state_dict())
    (finding,) = after.update({'train_loss': 2.3, '#weight_change': 0.0}, Progress(4, 4))
    assert finding.kind == 'plateau'


def test_a_state_from_before_weights_were_looked_at_says_nothing_of_them():
    detector = PlateauDetector(rounds=3)
    state = detector.state_dict()
    del state['learning']
    detector.load_state_dict(state)
    found = [f.message for number in range(1, 5)
             for f in detector.update({'train_loss': 2.3, '#weight_change': 0.0}, Progress(number, number))]
    assert len(found) == 1 and 'not moved' not in found[0]


@pytest.mark.parametrize('epoch', [20, 70])
def test_the_monitor_remembers_the_level_of_the_first_iterations(epoch):
    seen = []

    class Sees:
        def update(self, values, progress):
            seen.append(dict(values))
            return []

    monitor = TrainingMonitor({}, slow={'round': {'sees': Sees()}})
    for step in range(1, 5 * epoch + 1):
        monitor.after_iter({'loss': 5.0 + (-1) ** step if step <= 20 else 2.0}, Progress(0, step))
        if step % epoch == 0:
            monitor.after_epoch(Progress(step // epoch, step), facts=MOVES)
    known = min(epoch, 50)
    assert {values['#first_loss'] for values in seen} == {(20 * 5 + (known - 20) * 2) / known}
    assert seen[-1]['#weight_change'] == 0.02 and seen[-1]['train_loss'] == 2.0
    assert 0 < seen[-1]['#first_error'] < 2 / math.sqrt(known)
