"""MMEngine's FlexibleRunner with a strategy that writes files: the same promises as with a Runner."""

import pytest
from digests import digests
from forked import PROJECT, log_of, train_forked
from launched import launch, launch_by_torchrun

pytestmark = pytest.mark.slow

CONFIG = 'tiny_flexible.py'


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('flexible') / 'run'
    assert train_forked(CONFIG, work_dir) == 0, log_of(work_dir)[-3000:]
    return work_dir


@pytest.mark.parametrize('moment', [('after_train_iter', 21), ('after_val_iter', 5), ('after_val', 2)])
def test_killed_and_resumed_run_is_the_same_run(moment, reference, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, kill=moment) == -9, log_of(work_dir)[-3000:]
    assert train_forked(CONFIG, work_dir, resume=True) == 0, log_of(work_dir)[-3000:]
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')


def test_a_resume_passes_over_a_bad_file_and_needs_no_last_checkpoint(reference, tmp_path):
    """Stock's FlexibleRunner ends at a truncated file, and starts from scratch where ``last_checkpoint`` is lost."""
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 29)) == -9
    bad = work_dir / 'iter_28.pth'
    bad.write_bytes(bad.read_bytes()[:-1000])
    (work_dir / 'last_checkpoint').unlink()
    assert train_forked(CONFIG, work_dir, resume=True) == 0, log_of(work_dir)[-3000:]
    assert 'iter_28.pth is skipped' in log_of(work_dir) and 'iter_24.pth\n' in log_of(work_dir)
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')


def test_a_file_can_be_asked_for_and_a_preemption_leaves_one(reference, tmp_path):
    work_dir = tmp_path / 'run'
    preempted = [dict(type='mmckpt.PreemptionHook')]
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 21, 'term'), hooks=preempted) == 75
    asked = str(work_dir / 'interrupted_iter_22.pth')
    assert train_forked(CONFIG, work_dir, resume=asked) == 0, log_of(work_dir)[-3000:]
    assert f'Resumed from {asked}' in log_of(work_dir)
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')


def test_two_ranks_under_the_ddp_strategy_resume_as_the_same_run(tmp_path):
    half = 'train_dataloader.batch_size=16'
    launch(2, PROJECT / CONFIG, tmp_path / 'whole', half)
    launch_by_torchrun(2, PROJECT / CONFIG, tmp_path / 'run', half, "custom_hooks.6.type='KillRank'",
                       'custom_hooks.6.nth=21', expect=1)
    out = launch(2, PROJECT / CONFIG, tmp_path / 'run', half, flags=['--resume'])
    assert 'iter_20.pth' in out
    assert digests(tmp_path / 'run/iter_40.pth') == digests(tmp_path / 'whole/iter_40.pth')


def test_a_file_that_the_strategy_writes_holds_the_same_and_resumes_alike(reference, tmp_path):
    work_dir = tmp_path / 'run'
    own = dict(strategy=dict(type='OwnFileStrategy'))
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 21), **own) == -9, log_of(work_dir)[-3000:]
    assert train_forked(CONFIG, work_dir, resume=True, **own) == 0, log_of(work_dir)[-3000:]
    assert 'by OwnFileStrategy' in log_of(work_dir)
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')
