"""A run that is killed and resumed ends like the run that never was, to the bit."""

import json
import shutil

import pytest
from digests import digests

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def reference(train, tmp_path_factory):
    """Digests of the run that was never killed."""
    work_dir = tmp_path_factory.mktemp('reference') / 'run'
    train(work_dir)
    return digests(work_dir / 'epoch_5.pth'), best_files(work_dir)


def best_files(work_dir):
    index = json.loads((work_dir / 'mmckpt_index.json').read_text())
    return {r['name']: r['scores'] for r in index['records'] if r['name'].startswith('best_')}


def kill_hook(event, nth, how='kill'):
    return ['--cfg-options', "custom_hooks.6.type='KillHook'", f"custom_hooks.6.event='{event}'",
            f'custom_hooks.6.nth={nth}', f"custom_hooks.6.how='{how}'"]


# A validation has 3 iterations, an epoch 8; every epoch writes one checkpoint. Each process goes on from what the one
# before it left, and counts from its own start; what one of them broke would be in the end of all.
MOMENTS = {
    'at events': {
        'in the first epoch, before any checkpoint': dict(hook=('after_train_iter', 5)),
        'inside an epoch': dict(hook=('after_train_iter', 12)),
        'inside the validation of epoch 2': dict(hook=('after_val_iter', 2)),
        'after the validation of epoch 3, before its results are recorded': dict(hook=('after_val_epoch', 2)),
        'right after the validation of epoch 4': dict(hook=('after_val', 2)),
    },
    'inside the calls that write': {
        'before a file is synced': dict(call='fsync:7'),
        'at a link of the best': dict(call='link:1'),
        'before a file gets its name': dict(call='replace:5'),
    },
}


@pytest.mark.parametrize('moments', MOMENTS)
def test_killed_run_ends_bit_identical(moments, train, reference, tmp_path):
    work_dir, begun = tmp_path / 'run', []
    for plan in MOMENTS[moments].values():
        if 'hook' in plan:
            train(work_dir, *begun, *kill_hook(*plan['hook']), expect=-9)
        else:
            train(work_dir, *begun, expect=-9, env={'TINY_KILL_AT': plan['call']})
        begun = ['--resume']
    train(work_dir, '--resume')
    assert digests(work_dir / 'epoch_5.pth') == reference[0]
    assert best_files(work_dir) == reference[1]


@pytest.fixture(scope='module')
def killed(train, tmp_path_factory):
    """Work directory of a run that was killed inside epoch 4; not to be written to."""
    work_dir = tmp_path_factory.mktemp('killed') / 'run'
    train(work_dir, *kill_hook('after_train_iter', 28), expect=-9)
    return work_dir


def test_resume_from_best_continues_with_full_state(train, reference, killed, tmp_path):
    part = shutil.copytree(killed, tmp_path / 'part')
    best = next(part.glob('best_acc_epoch_*.pth'))
    train(part, '--resume-from', best)
    assert digests(part / 'epoch_5.pth') == reference[0]


def test_resume_from_file_alone_makes_up_the_validation(train, reference, killed, tmp_path):
    """A file that was moved away from its index holds no validation results: they are made anew."""
    second = tmp_path / 'second'
    second.mkdir()
    moved = shutil.copy(killed / 'epoch_2.pth', tmp_path / 'moved.pth')
    done = train(second, '--resume-from', moved)
    assert 'it runs first' in done.stdout
    assert digests(second / 'epoch_5.pth') == reference[0]


def test_damaged_newest_file_is_skipped(train, reference, killed, tmp_path):
    work_dir = shutil.copytree(killed, tmp_path / 'run')
    newest = work_dir / 'epoch_3.pth'
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.unlink()
    newest.write_bytes(damaged)
    done = train(work_dir, '--resume')
    assert 'epoch_3.pth' in done.stdout and 'digest' in done.stdout
    assert digests(work_dir / 'epoch_5.pth') == reference[0]
