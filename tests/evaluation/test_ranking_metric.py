"""Ranking metrics against scikit-learn and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from sklearn.metrics import ndcg_score

from mmckpt.evaluation import RankingMetric


def random_users(count=17, items=60, seed=0):
    rng = np.random.RandomState(seed)
    users = []
    for number in range(count):
        taken = rng.choice(items, rng.randint(2, 30), replace=False)
        held_out = rng.randint(1, len(taken))
        users.append(dict(pred_scores=rng.normal(size=items), held_out=taken[:held_out], fold_in=taken[held_out:],
                          img_id=number, id=number))
    return users


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


@pytest.mark.parametrize('k', [1, 5, 20, 100])
def test_ndcg_is_that_of_scikit_learn_on_the_items_that_were_not_shown(k):
    users, expected = random_users(), []
    for user in users:
        rest = np.setdiff1d(np.arange(60), user['fold_in'])
        relevant = np.isin(rest, user['held_out']).astype(float)
        expected.append(ndcg_score([relevant], [user['pred_scores'][rest]], k=k))
    assert evaluate(RankingMetric(ndcg=k), users)[f'NDCG@{k}'] == pytest.approx(np.mean(expected), rel=1e-12)


def test_recall_by_hand():
    user = dict(pred_scores=[9, 8, 7, 6, 5, 4], fold_in=[0], held_out=[1, 3, 5])
    # Ranking without item 0: 1, 2, 3, 4, 5.
    metrics = evaluate(RankingMetric(recall=(1, 2, 3, 5, 50)), [user])
    assert {k: v for k, v in metrics.items() if k.startswith('Recall')} == {
        'Recall@1': 1.0, 'Recall@2': 0.5, 'Recall@3': 2 / 3, 'Recall@5': 1.0, 'Recall@50': 1.0}


def test_a_perfect_ranking_is_worth_one_and_the_reverse_of_it_less():
    user = dict(pred_scores=[5, 4, 3, 2, 1, 0], held_out=[0, 1])
    assert evaluate(RankingMetric(ndcg=3, recall=3), [user]) == {'NDCG@3': 1.0, 'Recall@3': 1.0}
    worst = dict(user, pred_scores=user['pred_scores'][::-1])
    assert evaluate(RankingMetric(ndcg=3, recall=3), [worst]) == {'NDCG@3': 0.0, 'Recall@3': 0.0}


def test_users_weigh_the_same_and_those_without_held_out_items_do_not_count():
    found = dict(pred_scores=[1, 0], held_out=[0])
    missed = dict(pred_scores=[0, 1], held_out=[0])
    nothing = dict(pred_scores=[0, 1], held_out=[])
    assert evaluate(RankingMetric(recall=1), [found, missed, nothing])['Recall@1'] == 0.5
    assert all(math.isnan(value) for value in evaluate(RankingMetric(), [nothing]).values())


def test_a_user_that_was_repeated_for_another_rank_counts_once_and_order_does_not_matter():
    users = random_users()
    once = evaluate(RankingMetric(), users)
    assert evaluate(RankingMetric(), users + users[:5]) == once
    assert evaluate(RankingMetric(), users[::-1]) == once


def test_the_scores_are_left_as_they_were():
    user = dict(pred_scores=np.arange(4.0), fold_in=[3], held_out=[2])
    evaluate(RankingMetric(), [user])
    assert user['pred_scores'].tolist() == [0, 1, 2, 3]


def test_it_reads_what_a_model_of_mmengine_gives():
    element = BaseDataElement(pred_scores=torch.tensor([0.1, 0.9, 0.5]), fold_in=torch.tensor([1]),
                              held_out=torch.tensor([2]))
    evaluator = Evaluator(RankingMetric(recall=1, prefix='test'))
    evaluator.process(data_samples=[element])
    assert evaluator.evaluate(1) == {'test/NDCG@100': 1.0, 'test/Recall@1': 1.0}


@pytest.mark.parametrize('numbers', [dict(held_out=[5]), dict(held_out=[0], fold_in=[-1])])
def test_an_item_without_a_score_is_an_error_that_names_num_items(numbers):
    with pytest.raises(ValueError, match='from 0 to 2, found .*num_items'):
        evaluate(RankingMetric(), [dict(pred_scores=[1, 2, 3], **numbers)])


@pytest.mark.parametrize('arguments', [dict(ndcg=0), dict(recall=(20, -1))])
def test_a_k_below_one_is_refused_at_construction(arguments):
    with pytest.raises(ValueError, match='at least 1'):
        RankingMetric(**arguments)
