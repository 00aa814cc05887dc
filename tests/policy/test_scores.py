from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmckpt.policy.selection.scores import as_score, is_better


@pytest.mark.parametrize('score, best, rule, min_delta, expected', [
    (0.5, 0.4, 'greater', 0.0, True),
    (0.4, 0.4, 'greater', 0.0, False),
    (0.3, 0.4, 'less', 0.0, True),
    (0.4, 0.4, 'less', 0.0, False),
    (0.0, None, 'greater', 0.0, True),
    (0.0, -0.1, 'greater', 0.0, True),
    (0.0, 0.1, 'less', 0.0, True),
    (0.5, 0.45, 'greater', 0.1, False),
    (0.6, 0.45, 'greater', 0.1, True),
    (0.4, 0.45, 'less', 0.1, False),
    (0.3, 0.45, 'less', 0.1, True),
    (-5.0, -math.inf, 'greater', 0.1, True),
    (5.0, math.inf, 'less', 0.1, True),
    (math.nan, None, 'greater', 0.0, False),
    (math.nan, -math.inf, 'greater', 0.0, False),
    (math.nan, math.nan, 'less', 0.0, False),
    (1.0, math.nan, 'less', 0.0, True),
    (None, 0.1, 'less', 0.0, False),
    (None, None, 'less', 0.0, False),
])
def test_is_better(score, best, rule, min_delta, expected):
    assert is_better(score, best, rule, min_delta) is expected


@pytest.mark.parametrize('value, expected', [
    (1, 1.0), (0.0, 0.0), (True, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (np.array(2.0), 2.0),
    (np.array([2.0]), 2.0), (torch.tensor(0.25), 0.25), (torch.tensor([3]), 3.0),
    (torch.tensor(1.5, dtype=torch.bfloat16, requires_grad=True), 1.5)])
def test_one_number_is_a_score_whatever_its_type(value, expected):
    score = as_score(value)
    assert type(score) is float and score == expected


def test_none_is_no_score_and_nan_stays():
    assert as_score(None) is None
    assert math.isnan(as_score(torch.tensor(math.nan)))


@pytest.mark.parametrize('value', ['0.5', [1.0], {}, torch.zeros(2), np.zeros(2), 1j, object()])
def test_what_is_not_one_number_is_refused(value):
    with pytest.raises(ValueError, match=f'one number, but got {type(value).__name__}'):
        as_score(value)
