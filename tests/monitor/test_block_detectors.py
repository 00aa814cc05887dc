"""Detectors over blocks of iterations: loss terms that do no work, gradients that leave their range."""

import pytest

from mmckpt.monitor import GradientDetector, LossTermsDetector
from mmckpt.monitor.blocks import summarise
from mmckpt.progress import Progress


def feed(detector, steps):
    """Feed blocks, given as a list of values of each term; return (iter, kind, severity, subject)."""
    found = []
    for number, step in enumerate(steps, 1):
        blocks = {name: summarise(values if isinstance(values, list) else [values, 1.1 * values])
                  for name, values in step.items()}
        found += [(50 * number, f.kind, f.severity, f.subject)
                  for f in detector.update(blocks, Progress(0, 50 * number))]
    return found


ALIVE = dict(loss=1.0, loss_a=0.5)
LOSS_TERMS = {
    'healthy': ([ALIVE] * 9, []),
    'zero from the start': ([dict(ALIVE, vis_dist_loss=[0.0, 0.0])] * 5,
                            [(200, 'loss_term_dead', 'warning'), (250, 'loss_term_dead', 'warning')]),
    'zero once satisfied': ([dict(ALIVE, loss_b=1.0)] * 2 + [dict(ALIVE, loss_b=[0.0])] * 4,
                            [(300, 'loss_term_dead', 'info')]),
    'zero now and then': ([dict(ALIVE, loss_b=[0.0]), dict(ALIVE, loss_b=[0.0]), dict(ALIVE, loss_b=[0.0, 1.0])] * 4,
                          []),
    'constant': ([dict(ALIVE, loss_b=[0.7, 0.7])] * 4, [(200, 'loss_term_dead', 'warning')]),
    'constant in each block only': ([dict(ALIVE, loss_b=[0.1 * i]) for i in range(1, 9)], []),
    'gone': ([dict(ALIVE, loss_b=1.0)] + [ALIVE] * 4, [(250, 'loss_term_missing', 'warning')]),
    'now and then': ([dict(ALIVE, loss_b=1.0), ALIVE, ALIVE, ALIVE] * 3, []),
    'out of scale': ([dict(ALIVE, loss_b=1e-5)] * 4, [(200, 'loss_scale', 'info')]),
    'a term of 1e-4': ([dict(ALIVE, loss_b=1e-4 * 20)] * 4, []),
    'only NaN': ([dict(ALIVE, loss_b=[float('nan')])] * 6, []),
    'no loss': ([dict(ALIVE, accuracy=[0.0])] * 6, []),
}


@pytest.mark.parametrize('case', LOSS_TERMS)
def test_loss_terms(case):
    steps, expected = LOSS_TERMS[case]
    assert [row[:3] for row in feed(LossTermsDetector(), steps)] == expected


def test_an_expected_term_that_never_comes_is_missing():
    found = feed(LossTermsDetector(expected=['vis_dist_loss']), [ALIVE] * 4)
    assert found == [(200, 'loss_term_missing', 'warning', 'vis_dist_loss')]


def test_an_explicit_ratio_is_obeyed_as_a_warning():
    assert feed(LossTermsDetector(ratio=10.0, blocks=1), [dict(ALIVE, loss_b=0.01)]) == [
        (50, 'loss_scale', 'warning', 'loss_b')]


def norms(values, loss=1.0):
    return [dict(loss=loss, grad_norm=value) for value in values]


GRADIENTS = {
    'healthy': (norms([3.0, 2.0, 1.5, 1.0, 2.5, 1.2, 4.0]), []),
    'explosion': (norms([1.0, 1.2, 1.0, 40.0, 60.0]),
                  [(200, 'gradient_explosion', 'warning'), (250, 'gradient_explosion', 'warning')]),
    'a high start is no explosion': (norms([100.0, 1.0, 1.0]), []),
    'vanishing': (norms([1.0, 1.0, 1e-6]), [(150, 'gradient_vanishing', 'warning')]),
    'exactly zero': (norms([1.0, 1.0, 0.0]), [(150, 'gradient_vanishing', 'warning')]),
    'small since all is learnt': (norms([1.0]) + norms([1e-6], loss=0.001), []),
    'no norm': ([dict(loss=1.0)] * 5, []),
}


@pytest.mark.parametrize('case', GRADIENTS)
def test_gradients(case):
    steps, expected = GRADIENTS[case]
    assert [row[:3] for row in feed(GradientDetector(), steps)] == expected


@pytest.mark.parametrize('kind, kwargs', [
    (LossTermsDetector, dict(blocks=0)), (LossTermsDetector, dict(ratio=1.0)),
    (GradientDetector, dict(explosion=1.0)), (GradientDetector, dict(vanishing=1.0))])
def test_wrong_arguments_are_refused(kind, kwargs):
    with pytest.raises(ValueError, match='must be'):
        kind(**kwargs)
