"""Metrics over two real processes are those of one, also with an uneven last batch."""

from __future__ import annotations

import json

import numpy as np
from forked import on_two_ranks
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank

from mmckpt.evaluation import PCK, DepthMetric, KeypointAP, RankingMetric

# One rank ends with a batch of 3, two with batches of 2, one sample of which is a repeat.
COUNT, BATCH = 11, 4


def samples():
    rng = np.random.RandomState(0)
    for i in range(COUNT):
        truth = rng.uniform(0, 50, (1, 5, 2))
        found = truth + rng.normal(0, 1 + i / 3, truth.shape)
        yield dict(
            img_id=i, id=i, pred_instances=dict(keypoints=found, keypoint_scores=rng.uniform(0, 1, (1, 5))),
            gt_instances=dict(keypoints=truth, keypoints_visible=np.ones((1, 5)),
                              bboxes=np.array([[0, 0, 50, 50]]), areas=np.array([2500.0])),
            gt_depth_map=dict(data=rng.uniform(0, 5, (1, 3, 4)).clip(1)),
            pred_depth_map=dict(data=rng.uniform(1, 5, (1, 3, 4))),
            pred_scores=rng.normal(size=30), fold_in=np.arange(i), held_out=np.arange(i, 2 * i + 1))


def evaluate():
    """Evaluate the share of this rank; return the metrics of all."""
    mine = list(samples())
    mine = [mine[i] for i in DefaultSampler(mine, shuffle=False)]
    metrics = {}
    for metric in (PCK(threshold=0.05, per_keypoint=True), KeypointAP(sigmas=[0.05] * 5),
                   PCK(threshold=0.3, normalizer='torso', normalizer_keypoints=(0, 4), prefix='torso'),
                   DepthMetric(prefix='depth'), RankingMetric(5)):
        for start in range(0, len(mine), BATCH):
            metric.process(None, mine[start:start + BATCH])
        metrics.update(metric.evaluate(size=COUNT))
    return metrics


def write_metrics(folder):
    (folder / f'rank{get_rank()}.json').write_text(json.dumps(evaluate()))


def test_two_ranks_with_an_odd_number_of_samples_give_the_values_of_one(tmp_path):
    alone = evaluate()
    on_two_ranks(write_metrics, tmp_path)
    together = [json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in range(2)]
    assert all(0 < alone[name] < 1 for name in (
        'PCK', 'PCK_3', 'torso/PCK', 'AP', 'AR', 'depth/delta1', 'depth/abs_rel', 'NDCG@5', 'Recall@20'))
    assert together == [alone, alone]
