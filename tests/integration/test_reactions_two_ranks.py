"""Two real DDP ranks do the same about a NaN that only one of them has."""

import json
import os
import subprocess
import sys

import launched
import pytest
import torch
from forked import PROJECT
from test_rollback import state_of

pytestmark = pytest.mark.slow

NAN_ON_RANK_1 = ("custom_hooks.6.type='PlantNaN'", 'custom_hooks.6.rank=1', 'custom_hooks.7.type=WriteWeights')


def launch(work_dir, *options):
    return launched.launch(2, PROJECT / 'tiny_two_ranks.py', work_dir, 'train_dataloader.batch_size=16', *options)


def test_a_window_with_a_nan_on_one_rank_is_dropped_on_both_and_its_cause_named(tmp_path):
    work_dir = tmp_path / 'run'
    # Windows of accumulation have 3 iterations: 8 is inside one, 12 at the end of one.
    out = launch(work_dir, *NAN_ON_RANK_1, 'custom_hooks.6.at=[8,12]', 'custom_hooks.4.on_nan=skip',
                 'custom_hooks.4.locate_nan=True', 'train_cfg.max_epochs=2')
    first, second = (torch.load(work_dir / f'weights_{rank}.bin', weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
    ranks = torch.load(work_dir / 'iter_16.pth', weights_only=True)['mmckpt']['ranks']
    assert all(value.isfinite().all() for value in ranks[1]['buffers'].values())
    assert json.loads((work_dir / 'training_stats.json').read_text())['skipped_by_cause'] == {'nan': 2}
    assert '[rank 1] Cause of the non-finite values at iter 9: inputs[3] of the batch is nan' in out
    assert sorted(path.name for path in work_dir.glob('nan_*')) == ['nan_12_rank1', 'nan_9_rank1']
    replay = subprocess.run(
        [sys.executable, '-m', 'mmckpt.cli.main', 'replay', str(work_dir / 'nan_9_rank1'), '--device', 'cpu'],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100,
        env=dict(os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{launched.ROOT}'))
    assert replay.returncode == 0 and 'first: batch inputs[3]' in replay.stdout.splitlines(), replay.stdout


def test_both_ranks_go_back_and_end_as_the_run_that_nothing_happened_to(tmp_path):
    launch(tmp_path / 'straight', 'train_cfg.max_epochs=3')
    launch(tmp_path / 'run', *NAN_ON_RANK_1, 'custom_hooks.6.at=[14]', 'custom_hooks.4.on_nan.type=rollback',
           'custom_hooks.4.on_nan.skip_iters=0', 'train_cfg.max_epochs=3')
    assert json.loads((tmp_path / 'run/training_stats.json').read_text())['rollbacks'][0]['to_iter'] == 12
    assert state_of(tmp_path / 'run/iter_24.pth') == state_of(tmp_path / 'straight/iter_24.pth')
    ranks = torch.load(tmp_path / 'run/iter_24.pth', weights_only=True)['mmckpt']['ranks']
    assert ranks[1]['buffers'], 'the ranks have the same BN statistics, so this test shows nothing'
