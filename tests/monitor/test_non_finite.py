"""NonFiniteDetector names the term and the iteration."""

import math

import pytest

from mmckpt.monitor import NonFiniteDetector
from mmckpt.progress import Progress


@pytest.mark.parametrize('values, subjects', [
    ({'loss': 1.0, 'a': 0.5}, []),
    ({}, []),
    ({'loss': math.nan, 'a': math.nan, 'b': 0.5}, ['a', 'loss']),
    ({'loss': math.inf, 'a': 0.5, 'b': math.inf}, ['b', 'loss']),
    ({'loss': -math.inf}, ['loss']),
    ({'loss': 1.0, 'grad_norm': math.nan}, ['grad_norm']),
    ({'d_real': math.nan, 'd_fake': 1.0}, ['d_real']),
])
def test_the_terms_that_are_not_finite_are_named_before_their_sum(values, subjects):
    found = NonFiniteDetector().update(values, Progress(0, 4))
    assert [finding.subject for finding in found] == subjects
    assert all((f.kind, f.severity, f.progress.iter) == ('non_finite', 'error', 4) for f in found)


def test_an_accuracy_beside_finite_losses_is_a_warning():
    detector = NonFiniteDetector()
    assert [f.severity for f in detector.update({'loss': 1.0, 'acc': math.nan}, Progress(0, 4))] == ['warning']
    assert [f.severity for f in detector.update({'loss': math.nan, 'acc': math.nan}, Progress(0, 5))] == ['error'] * 2


def test_the_last_finite_value_is_part_of_the_message():
    detector = NonFiniteDetector()
    detector.update({'loss': 2.5}, Progress(0, 8))
    messages = [detector.update({'loss': math.inf}, Progress(0, step))[0].message for step in (9, 10)]
    assert messages == ['Non-finite value at iter 9: loss is inf (it was 2.500000 at iter 8).',
                        'Non-finite value at iter 10: loss is inf (it was 2.500000 at iter 8).']


def test_a_term_that_was_never_finite_says_so():
    (finding,) = NonFiniteDetector().update({'loss': math.nan}, Progress(0, 1))
    assert finding.message == 'Non-finite value at iter 1: loss is nan (it has not been finite before).'
