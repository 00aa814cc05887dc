"""Metrics over two real processes are those of one, also with an uneven last batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''
import json, os, sys
import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.dataset import DefaultSampler
from mmckpt.evaluation import PCK, DepthMetric, KeypointAP, RankingMetric

if len(sys.argv) > 1:
    torch.distributed.init_process_group('gloo')
# One rank ends with a batch of 3, two with batches of 2, one sample of which is a repeat.
COUNT, BATCH = 11, 4
rng = np.random.RandomState(0)
samples = []
for i in range(COUNT):
    truth = rng.uniform(0, 50, (1, 5, 2))
    found = truth + rng.normal(0, 1 + i / 3, truth.shape)
    samples.append(dict(
        img_id=i, id=i, pred_instances=dict(keypoints=found, keypoint_scores=rng.uniform(0, 1, (1, 5))),
        gt_instances=dict(keypoints=truth, keypoints_visible=np.ones((1, 5)),
                          bboxes=np.array([[0, 0, 50, 50]]), areas=np.array([2500.0])),
        gt_depth_map=dict(data=rng.uniform(0, 5, (1, 3, 4)).clip(1)),
        pred_depth_map=dict(data=rng.uniform(1, 5, (1, 3, 4))),
        pred_scores=rng.normal(size=30), fold_in=np.arange(i), held_out=np.arange(i, 2 * i + 1)))
mine = [samples[i] for i in DefaultSampler(samples, shuffle=False)]
metrics = {}
for metric in (PCK(threshold=0.05, per_keypoint=True), KeypointAP(sigmas=[0.05] * 5),
               PCK(threshold=0.3, normalizer='torso', normalizer_keypoints=(0, 4), prefix='torso'),
               DepthMetric(prefix='depth'), RankingMetric(5)):
    for start in range(0, len(mine), BATCH):
        metric.process(None, mine[start:start + BATCH])
    metrics.update(metric.evaluate(size=COUNT))
if get_rank() == 0:
    print('RESULT', get_world_size(), json.dumps(metrics), flush=True)
if len(sys.argv) > 1:
    torch.distributed.destroy_process_group()
    # torch 2.13 aborts now and then when an interpreter ends after gloo.
    os._exit(0)
'''


def run(command, folder):
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith('RESULT'))
    _, world_size, metrics = line.split(maxsplit=2)
    return int(world_size), json.loads(metrics)


@pytest.mark.slow
def test_two_ranks_with_an_odd_number_of_samples_give_the_values_of_one(tmp_path):
    script = tmp_path / 'evaluate.py'
    Path(script).write_text(SCRIPT)
    alone = run([sys.executable, str(script)], tmp_path)
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    together = run([*launcher, str(script), 'distributed'], tmp_path)
    assert (alone[0], together[0]) == (1, 2)
    assert all(0 < alone[1][name] < 1 for name in (
        'PCK', 'PCK_3', 'torso/PCK', 'AP', 'AR', 'depth/delta1', 'depth/abs_rel', 'NDCG@5', 'Recall@20'))
    assert together[1] == alone[1]
