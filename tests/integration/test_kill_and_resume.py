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


# A validation has 3 iterations, an epoch 8; every epoch writes one checkpoint.
MOMENTS = {
    'in the first epoch, before any checkpoint': dict(hook=('after_train_iter', 5)),
    'inside an epoch': dict(hook=('after_train_iter', 20)),
    'inside a validation': dict(hook=('after_val_iter', 8)),
    'after a validation, before its results are recorded': dict(hook=('after_val_epoch', 3)),
    'right after a validation': dict(hook=('after_val', 3)),
    'before a file is synced': dict(call='fsync:7'),
    'before a file gets its name': dict(call='replace:5'),
    'at a link of the best': dict(call='link:3'),
}


@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_run_ends_bit_identical(moment, train, reference, tmp_path):
    work_dir, plan = tmp_path / 'run', MOMENTS[moment]
    if 'hook' in plan:
        train(work_dir, *kill_hook(*plan['hook']), expect=-9)
    else:
        train(work_dir, expect=-9, env={'TINY_KILL_AT': plan['call']})
    train(work_dir, '--resume')
    assert digests(work_dir / 'epoch_5.pth') == reference[0]
    assert best_files(work_dir) == reference[1]


def test_killed_twice_and_resumed_twice(train, reference, tmp_path):
    work_dir = tmp_path / 'run'
    train(work_dir, *kill_hook('after_val_iter', 2), expect=-9)
    train(work_dir, '--resume', *kill_hook('after_train_iter', 18), expect=-9)
    train(work_dir, '--resume')
    assert digests(work_dir / 'epoch_5.pth') == reference[0]


def test_resume_from_best_continues_with_full_state(train, reference, tmp_path):
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    train(whole, *kill_hook('after_train_iter', 28), expect=-9)
    shutil.copytree(whole, part)
    best = next(part.glob('best_acc_epoch_*.pth'))
    train(part, '--resume-from', best)
    assert digests(part / 'epoch_5.pth') == reference[0]


def test_resume_from_file_alone_makes_up_the_validation(train, reference, tmp_path):
    """A file that was moved away from its index holds no validation results: they are made anew."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(first, *kill_hook('after_train_iter', 28), expect=-9)
    second.mkdir()
    moved = shutil.copy(first / 'epoch_2.pth', tmp_path / 'moved.pth')
    done = train(second, '--resume-from', moved)
    assert 'it runs first' in done.stdout
    assert digests(second / 'epoch_5.pth') == reference[0]


def test_damaged_newest_file_is_skipped(train, reference, tmp_path):
    work_dir = tmp_path / 'run'
    train(work_dir, *kill_hook('after_train_iter', 28), expect=-9)
    newest = work_dir / 'epoch_3.pth'
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.unlink()
    newest.write_bytes(damaged)
    done = train(work_dir, '--resume')
    assert 'epoch_3.pth' in done.stdout and 'digest' in done.stdout
    assert digests(work_dir / 'epoch_5.pth') == reference[0]
