"""What a quick check says about what it saw."""

import math

import pytest
from mmengine.config import Config

from mmckpt.cli.findings import (
    Gradients,
    judge_gradients,
    judge_monitors,
    judge_terms,
    monitored_metrics,
    summarize_terms,
)

HEALTHY = [2.0, 1.5, 1.0]


@pytest.mark.parametrize('terms, problems', [
    ({'loss': HEALTHY, 'heatmap_loss': HEALTHY}, []),
    ({'loss': HEALTHY, 'acc_pose': [0.0, 0.0, 0.0]}, []),
    ({'loss': HEALTHY, 'dist_loss': [0.0, 0.0, 0.0]}, ['dist_loss is 0 in every iteration']),
    ({'loss': HEALTHY, 'dist_loss': [0.0, 0.1, 0.0]}, []),
    ({'loss': HEALTHY, 'dist_loss': [1.0, 1.0]}, ['dist_loss was computed in 2 of 3 iterations only']),
    ({'loss': [1.0, math.nan, 1.0], 'kpt_loss': [1.0, math.inf, 1.0]}, ['NaN or Inf in loss, kpt_loss']),
    ({'loss': [math.nan] * 3}, ['NaN or Inf in loss']),
    ({'acc': HEALTHY}, ['returned no loss']),
    ({}, ['returned no loss'])])
def test_every_loss_term_must_be_computed_and_finite(terms, problems):
    findings = judge_terms(summarize_terms(terms, iterations=3))
    assert len(findings) == len(problems)
    assert all(f.severe and said in f.text for f, said in zip(findings, problems))


@pytest.mark.parametrize('seen, severe, said', [
    (Gradients(steps=0, names=['w']), True, 'made no step'),
    (Gradients(3, [1.0], ['w', 'b'], set(), set()), True, 'no parameter got a gradient'),
    (Gradients(3, [1.0], ['w', 'b'], {'w'}, {'w'}), False, 'no gradient reached 1 parameter(s): b'),
    (Gradients(3, [1.0], ['w', 'b'], {'w', 'b'}, {'w'}), False, 'exactly 0 in every step in 1 parameter'),
    (Gradients(3, [1.0], ['w', 'b'], {'w', 'b'}, {'w'}, {'b': 2}), True, 'b (step 2)')])
def test_gradients_must_reach_the_parameters(seen, severe, said):
    [finding] = judge_gradients(seen)
    assert finding.severe is severe and said in finding.text


def test_healthy_gradients_give_no_finding():
    assert judge_gradients(Gradients(3, [1.0], ['w'], {'w'}, {'w'})) == []


def test_at_most_ten_names_are_listed():
    names = [f'layer{i}' for i in range(30)]
    [finding] = judge_gradients(Gradients(1, [1.0], [*names, 'w'], {'w'}, {'w'}))
    assert '30 parameter(s)' in finding.text and 'and 20 more' in finding.text
    assert 'layer10' not in finding.text


def test_everything_that_monitors_a_metric_is_found():
    cfg = Config(dict(
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best=['AP', dict(metric='PCK')])),
        custom_hooks=[dict(type='mmckpt.EarlyStoppingHook', monitor='AR'), dict(type='EMAHook')],
        param_scheduler=[dict(type='ReduceOnPlateauLR', monitor='loss'), dict(type='LinearLR')]))
    assert monitored_metrics(cfg) == [('CheckpointHook', 'AP'), ('CheckpointHook', 'PCK'),
                                      ('EarlyStoppingHook', 'AR'), ('ReduceOnPlateauLR', 'loss')]


@pytest.mark.parametrize('cfg', [dict(), dict(default_hooks=dict(checkpoint=dict(save_best='auto'))),
                                 dict(param_scheduler=dict(type='LinearLR'), custom_hooks=None)])
def test_nothing_is_monitored_where_no_metric_is_named(cfg):
    assert monitored_metrics(Config(cfg)) == []


def test_a_metric_that_is_not_produced_is_named_with_near_ones():
    [finding] = judge_monitors([('CheckpointHook', 'AP'), ('EarlyStoppingHook', 'pck')], ['AP', 'PCK'])
    assert finding.severe and "EarlyStoppingHook monitors 'pck'" in finding.text
    assert "Did you mean 'PCK'" in finding.text
