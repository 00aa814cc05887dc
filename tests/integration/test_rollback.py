"""A run that went back to a checkpoint inside its process is the run that was resumed from it in a new one."""

import json

import pytest
import torch
from digests import digests
from forked import log_of, train_forked

LOOPS = {'epochs': 'tiny_exact.py', 'iterations': 'tiny_exact_iters.py', 'stream': 'tiny_stream.py',
         'endless stream': 'tiny_stream_iters.py'}
NO_SKIP = dict(type='rollback', skip_iters=0)


def run(config, work_dir, plant=None, expect=0, **kwargs):
    hooks = [dict(type='PlantNaN', **plant)] if plant else []
    status = train_forked(config, work_dir, hooks=hooks, **kwargs)
    assert status == expect, log_of(work_dir)[-4000:]


def state_of(path):
    """Digests of a checkpoint, without the record of the rollback itself."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['mmckpt']['hooks'].pop('ReactionHook', None)
    torch.save(checkpoint, path.with_suffix('.bare'))
    return digests(path.with_suffix('.bare'))


# Windows of accumulation have 3 iterations, an epoch 8; saves come every 4, so that 20 is inside a window and 24 at
# the end of both. The validation of iteration 16 (or 10, 20, 30) changes a plateau scheduler.
@pytest.mark.parametrize('loop, workers, nan_at', [
    ('epochs', 0, 26), ('iterations', 2, 23), pytest.param('epochs', 2, 20, marks=pytest.mark.slow),
    pytest.param('iterations', 0, 33, marks=pytest.mark.slow), pytest.param('stream', 2, 29, marks=pytest.mark.slow),
    pytest.param('endless stream', 0, 29, marks=pytest.mark.slow)])
def test_a_rollback_without_skip_ends_as_the_run_that_nothing_happened_to(loop, workers, nan_at, tmp_path):
    data = dict(train_dataloader__num_workers=workers, train_dataloader__persistent_workers=workers > 0)
    run(LOOPS[loop], tmp_path / 'straight', **data)
    run(LOOPS[loop], tmp_path / 'run', plant=dict(at=[nan_at]), custom_hooks__4__on_nan=NO_SKIP, **data)
    assert 'Going back from iteration' in log_of(tmp_path / 'run')
    assert state_of(tmp_path / 'run/iter_40.pth') == state_of(tmp_path / 'straight/iter_40.pth')


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_skipped(tmp_path):
    run('tiny_exact.py', tmp_path / 'skipped', plant=dict(at=[14]), custom_hooks__4__on_nan='skip')
    run('tiny_exact.py', tmp_path / 'run', plant=dict(at=[14]), expect=76, custom_hooks__4__on_nan='stop')
    assert 'exit status 76' in log_of(tmp_path / 'run')
    # The window of iteration 14 ends at 15.
    assert (tmp_path / 'run/interrupted_iter_15.pth').exists()
    run('tiny_exact.py', tmp_path / 'run', custom_hooks__4__on_nan='stop', resume=True)
    assert state_of(tmp_path / 'run/iter_40.pth') == state_of(tmp_path / 'skipped/iter_40.pth')


@pytest.mark.slow
def test_a_rollback_that_leaves_updates_out_resumes_to_the_bit(tmp_path):
    """Killed after the rollback; the resume leaves the same updates out, and is the run that was not killed."""
    rollback = dict(custom_hooks__4__on_nan=dict(type='rollback', skip_iters=5, lr_factor=.5))
    plant = dict(at=[26], again=True)
    run('tiny_exact.py', tmp_path / 'whole', plant=plant, **rollback)
    # Iterations 1 to 27, then 25 to 31.
    run('tiny_exact.py', tmp_path / 'run', plant=plant, kill=('after_train_iter', 34), expect=-9, **rollback)
    run('tiny_exact.py', tmp_path / 'run', plant=plant, resume=True, **rollback)
    assert state_of(tmp_path / 'run/iter_40.pth') == state_of(tmp_path / 'whole/iter_40.pth')
    event = json.loads((tmp_path / 'run/mmckpt_index.json').read_text())['attempts'][1]['event']
    assert (event['from_iter'], event['to_iter']) == (27, 24)
