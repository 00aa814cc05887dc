"""Advice refers to the settings of the run and leaves out what is not known."""

import pytest

from mmckpt.monitor.advice import TrainingContext, advise
from mmckpt.monitor.events import TITLES

FULL = TrainingContext(lr=0.02, max_norm=35.0, batch_size=2, amp_dtype='float16')


@pytest.mark.parametrize('kind', TITLES)
def test_every_kind_of_finding_has_advice_with_or_without_settings(kind):
    assert advise(kind, FULL) and advise(kind, TrainingContext())
    assert all(advise(kind, TrainingContext()))


@pytest.mark.parametrize('kind, context, words', [
    ('loss_spike', FULL, ['it is 0.02 now', 'try 0.006', 'max_norm is 35 now', '2 a device']),
    ('loss_spike', TrainingContext(), ['clip_grad=dict(max_norm=...)']),
    ('non_finite', FULL, ['float16 overflows']),
    ('non_finite', TrainingContext(amp_dtype='bfloat16'), ['runs in bfloat16']),
    ('performance_drop', FULL, ['it is 0.02 now', 'overfitting']),
])
def test_advice_names_the_present_values(kind, context, words):
    text = '\n'.join(advise(kind, context))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize('context, absent', [
    (TrainingContext(), 'learning rate'),
    (TrainingContext(batch_size=64), 'batch size'),
    (TrainingContext(lr=0.1), 'mixed precision'),
])
def test_advice_says_nothing_of_what_is_not_known_or_not_a_cause(context, absent):
    assert absent not in '\n'.join(advise('loss_spike', context) + advise('non_finite', context))
