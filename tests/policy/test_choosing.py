"""Scores of validations, smoothing, the best k and names of files, without a Runner."""

from __future__ import annotations

import math

import pytest

from mmckpt.errors import MetricNotFoundError
from mmckpt.policy.selection import (
    FileTemplate,
    Scorer,
    Selection,
    TopScores,
    make_smoothing,
    parse_selection,
    safe_characters,
    told_apart,
)


@pytest.mark.parametrize('smooth, scores, smoothed', [
    (0.5, [4., 4., 4.], [4., 4., 4.]),
    (0.0, [1., 5., 3.], [1., 5., 3.]),
    (0.6, [1., 0.], [1., .6 / 1.6]),
    (dict(type='exponential', weight=.6), [1., 0.], [1., .6 / 1.6]),
    (dict(type='median', n=3), [3., 1., 2., 9., 9.], [3., 2., 2., 2., 9.]),
    (dict(type='median'), [1., 2.], [1., 1.5]),
])
def test_smoothing(smooth, scores, smoothed):
    smoothing = make_smoothing(smooth)
    assert [smoothing(score) for score in scores] == pytest.approx(smoothed)


@pytest.mark.parametrize('smooth, said', [
    (1.0, 'at least 0 and below 1'), (-.1, 'at least 0'), (True, 'weight of the past'), ('x', 'weight of the past'),
    (dict(type='mean'), "Did you mean 'median'"), (dict(n=3), 'is not known'),
    (dict(type='median', n=1), 'at least 2'), (dict(type='median', k=3), "takes 'n', but got"),
    (dict(type='exponential'), "takes 'weight'"),
])
def test_wrong_smoothing_is_refused(smooth, said):
    with pytest.raises(ValueError, match=said):
        Selection('AP', metric='AP', smooth=smooth)


def test_a_validation_without_a_score_leaves_the_smoothing_as_it_was():
    score = Scorer(Selection('AP', metric='AP', smooth=.5))
    clean = Scorer(Selection('AP', metric='AP', smooth=.5))
    given = [score({'AP': value}) for value in (1., None, math.nan, math.inf, 3.)]
    assert given[1:4] == [None] * 3
    assert [given[0], given[4]] == [clean({'AP': 1.}), clean({'AP': 3.})]


def test_a_metric_that_never_was_is_an_error_and_one_that_is_rare_is_not():
    score = Scorer(parse_selection(dict(name='s', expr='AP + PCK', rule='greater')))
    with pytest.raises(MetricNotFoundError, match="'PCK' is not among.*Did you mean 'pck'"):
        score({'AP': 1., 'pck': 1.})
    assert score({'AP': 1., 'PCK': 1.}) == 2.
    assert score({'AP': 1.}) is None and 'It was there before' in score.reason
    again = Scorer(parse_selection(dict(name='s', expr='AP + PCK', rule='greater')))
    again.load_state_dict(score.state_dict())
    assert again({'AP': 1.}) is None


def test_a_state_of_another_smoothing_is_left_out():
    median = Scorer(Selection('AP', metric='AP', smooth=dict(type='median', n=3)))
    exponential = Scorer(Selection('AP', metric='AP', smooth=.5))
    median({'AP': 9.})
    exponential.load_state_dict(median.state_dict())
    assert exponential({'AP': 1.}) == 1.


@pytest.mark.parametrize('rule, keep, min_delta, scores, kept', [
    ('greater', 1, 0, [.1, .3, .2], [2]),
    ('less', 2, 0, [.1, .3, .2], [1, 3]),
    ('greater', 2, 0, [.1, .1, .1], [1, 2]),
    ('greater', -1, 0, [.1, .3, .2], [1, 2, 3]),
    ('greater', 2, .15, [.1, .3, .2, .29], [2, 4]),
    ('greater', 2, .15, [.1, .3, .2], [1, 2]),
    ('greater', 3, 0, [math.nan, -math.inf, 0.0], [2, 3]),
])
def test_the_best_k(rule, keep, min_delta, scores, kept):
    top = TopScores(rule, keep, min_delta, {})
    for step, score in enumerate(scores, start=1):
        if top.takes((step, step), score):
            top = top.adding((step, step), score)
    assert [step for step, _ in top.scores] == kept


def test_a_step_that_is_trained_once_more_must_beat_itself():
    top = TopScores('greater', 2, 0, {(1, 1): .5, (2, 2): .6})
    assert not top.takes((1, 1), .5) and top.takes((1, 1), .55) and top.best == .6


@pytest.mark.parametrize('text, values, name', [
    ('{epoch:03d}', dict(epoch=7), '007.pth'),
    ('a{x!r}', dict(x='b'), "a'b'.pth"),
    ('{a/b:.1f}-{AP@0.5:.2%}', {'a/b': .25, 'AP@0.5': .5}, '0.2-50.00%.pth'),
    ('a:b*c?"<>|\\d', {}, 'a_b_c______d.pth'),
    ('{{literal}}', {}, '{literal}.pth'),
    ('best.pth', {}, 'best.pth'),
    ('.hidden', {}, '_hidden.pth'),
    ('../../etc/x', {}, '_.' + '_.._etc_x.pth'),
    ('line\nbreak', {}, 'line_break.pth'),
])
def test_templates(text, values, name):
    assert FileTemplate(text).name(values) == name


def test_a_name_that_is_too_long_is_cut_and_still_its_own():
    names = {FileTemplate('ä' * 300 + end).name({}) for end in 'ab'}
    assert len(names) == 2 and all(len(name.encode()) < 220 for name in names)


def test_a_value_that_does_not_fit_its_format_says_which():
    with pytest.raises(ValueError, match=r"cannot show AP=0.5 as \{AP:d\}"):
        FileTemplate('{AP:d}').name(dict(AP=.5))


def test_values_of_the_config_are_found_but_not_listed():
    template = FileTemplate('{model.type}_{pck}')
    assert template.name(dict(pck=1), config={'model.type': 'Net'}) == 'Net_1.pth'
    with pytest.raises(MetricNotFoundError, match="Did you mean 'PCK'. Available: 'PCK'.$"):
        template.name(dict(PCK=1), config={'model.type': 'Net'})


def test_names_are_told_apart_whatever_their_suffix():
    assert told_apart('a.pt', ['a.pt']) == 'a-v2.pt' and told_apart('a.pth', []) == 'a.pth'
    assert safe_characters('a/b') == 'a_b'
