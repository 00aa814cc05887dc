"""Whatever happens on the way, a run ends in the state that its config and seed determine."""

import random

import pytest
from digests import digests
from forked import log_of, train_forked

pytestmark = pytest.mark.slow

LOOPS = {'epochs': 'tiny_exact.py', 'iterations': 'tiny_exact_iters.py'}
WORKERS = {'no workers': {}, '2 workers': dict(train_dataloader__num_workers=2),
           '2 persistent workers': dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True)}
# Saves come every 4 iterations, windows of accumulation have 3, an epoch has 8, a validation 3;
# the iteration-based loop validates every 10.
MOMENTS = {
    'inside an epoch and a window': ('after_train_iter', 21),
    'at the end of an epoch': ('after_train_iter', 24),
    'just before a validation': ('before_val', 2),
    'inside a validation': ('after_val_iter', 5),
    'just after a validation': ('after_val', 2),
}


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """Digests of the end of a run that nothing happened to, by loop; made once each."""
    made = {}

    def get(loop):
        if loop not in made:
            work_dir = tmp_path_factory.mktemp('reference') / 'run'
            assert train_forked(LOOPS[loop], work_dir) == 0, log_of(work_dir)[-3000:]
            made[loop] = digests(work_dir / 'iter_40.pth')
        return made[loop]

    return get


@pytest.mark.parametrize('moment', MOMENTS)
@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize('loop', LOOPS)
def test_killed_and_resumed_run_is_the_same_run(loop, workers, moment, reference, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(LOOPS[loop], work_dir, kill=MOMENTS[moment], **WORKERS[workers]) == -9, log_of(work_dir)[-3000:]
    assert train_forked(LOOPS[loop], work_dir, resume=True, **WORKERS[workers]) == 0, log_of(work_dir)[-3000:]
    assert digests(work_dir / 'iter_40.pth') == reference(loop)


@pytest.mark.parametrize('loop', LOOPS)
def test_workers_do_not_change_the_run(loop, reference, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(LOOPS[loop], work_dir, **WORKERS['2 persistent workers']) == 0
    assert digests(work_dir / 'iter_40.pth') == reference(loop)


@pytest.mark.parametrize('loop', LOOPS)
def test_validation_does_not_change_the_weights(loop, tmp_path):
    """Without what validation feeds by design: plateau schedulers and early stopping."""
    plain = dict(param_scheduler=[dict(type='LinearLR', start_factor=.1, by_epoch=False, end=8)],
                 default_hooks__checkpoint__save_best=None)
    never = dict(train_cfg__val_begin=99, train_cfg__val_interval=99)
    assert train_forked(LOOPS[loop], tmp_path / 'with', **plain) == 0
    assert train_forked(LOOPS[loop], tmp_path / 'without', **plain, **never) == 0, log_of(tmp_path / 'without')[-3000:]
    first, second = digests(tmp_path / 'with/iter_36.pth'), digests(tmp_path / 'without/iter_36.pth')
    for part in ('state_dict', 'optimizer', 'ema_state_dict', 'rng'):
        assert first[part] == second[part]


@pytest.mark.parametrize('loop', LOOPS)
def test_a_run_killed_twenty_times_is_the_same_run(loop, reference, tmp_path):
    draw = random.Random(4)
    work_dir = tmp_path / 'run'
    for i in range(20):
        event, most = draw.choice([('after_train_iter', 8), ('after_val_iter', 3), ('before_train_iter', 8),
                                   ('before_save_checkpoint', 2), ('after_val_epoch', 1)])
        status = train_forked(LOOPS[loop], work_dir, resume=i > 0, kill=(event, draw.randint(1, most)))
        assert status in (0, -9), log_of(work_dir)[-3000:]
    assert train_forked(LOOPS[loop], work_dir, resume=True) == 0
    assert digests(work_dir / 'iter_40.pth') == reference(loop)


def test_background_saving_changes_nothing(reference, tmp_path):
    work_dir = tmp_path / 'run'
    store = dict(default_hooks__checkpoint__store=dict(async_save=True))
    assert train_forked(LOOPS['epochs'], work_dir, kill=('after_train_iter', 30), **store) == -9
    assert train_forked(LOOPS['epochs'], work_dir, resume=True, **store) == 0, log_of(work_dir)[-3000:]
    assert digests(work_dir / 'iter_40.pth') == reference('epochs')


def test_automatic_interval_changes_nothing(reference, tmp_path):
    work_dir = tmp_path / 'run'
    auto = dict(default_hooks__checkpoint__interval='auto', default_hooks__checkpoint__max_overhead=.5)
    assert train_forked(LOOPS['iterations'], work_dir, **auto) == 0, log_of(work_dir)[-3000:]
    ended, expected = digests(work_dir / 'iter_40.pth'), reference('iterations')
    # The hub lists which checkpoints there are.
    assert {k: v for k, v in ended.items() if k != 'infos'} == {k: v for k, v in expected.items() if k != 'infos'}
    assert 'iterations (' in log_of(work_dir) and 'a crash loses at most' in log_of(work_dir)
