"""Training on data without an index, killed and resumed, ends where the uninterrupted run does."""

import pytest
from digests import digests
from forked import log_of, train_forked

pytestmark = pytest.mark.slow

LOOPS = {'epochs': 'tiny_stream.py', 'iterations': 'tiny_stream_iters.py'}
WORKERS = {'no workers': {}, '2 workers': dict(train_dataloader__num_workers=2),
           '2 persistent workers': dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True),
           'a snapshot every 3 steps': dict(train_dataloader__num_workers=2,
                                            train_dataloader__snapshot_every_n_steps=3)}
# Saves come every 4 iterations; an epoch has 8, and resumes from iterations 4, 12, 16 and 32 follow.
KILLS = {'epochs': [('after_train_iter', 6), ('after_train_iter', 11), ('before_val', 1), ('after_train_epoch', 2)],
         'iterations': [('after_train_iter', 6), ('after_train_iter', 11), ('before_train_iter', 5),
                        ('after_train_iter', 18)]}


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """Digests of the end of a run that nothing happened to, by loop and loader; made once each."""
    made = {}

    def get(loop, options):
        key = loop, repr(options)
        if key not in made:
            work_dir = tmp_path_factory.mktemp('reference') / 'run'
            assert train_forked(LOOPS[loop], work_dir, **options) == 0, log_of(work_dir)[-3000:]
            made[key] = digests(work_dir / 'iter_40.pth')
        return made[key]

    return get


def train_with_kills(loop, work_dir, options):
    for i, kill in enumerate(KILLS[loop]):
        status = train_forked(LOOPS[loop], work_dir, resume=i > 0, kill=kill, **options)
        assert status == -9, log_of(work_dir)[-3000:]
    assert train_forked(LOOPS[loop], work_dir, resume=True, **options) == 0, log_of(work_dir)[-3000:]


@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize('loop', LOOPS)
def test_loader_that_keeps_its_place_goes_on_there(loop, workers, reference, tmp_path):
    work_dir, options = tmp_path / 'run', WORKERS[workers]
    train_with_kills(loop, work_dir, options)
    assert digests(work_dir / 'iter_40.pth') == reference(loop, options)
    assert 'place in the training data' in log_of(work_dir)
    assert 'read again' not in log_of(work_dir)


@pytest.mark.parametrize('workers', ['no workers', '2 workers'])
@pytest.mark.parametrize('loop', LOOPS)
def test_data_without_state_are_read_again_up_to_the_place(loop, workers, reference, tmp_path):
    """Resumed twice within one pass: torchdata's own way of reading again would be lost there."""
    work_dir, options = tmp_path / 'run', dict(train_dataloader__dataset__type='PlainStream', **WORKERS[workers])
    train_with_kills(loop, work_dir, options)
    assert digests(work_dir / 'iter_40.pth') == reference(loop, options)
    assert '4 batches were read again' in log_of(work_dir)


@pytest.mark.parametrize('loop', LOOPS)
def test_indexed_data_in_a_stateful_loader_go_on_too(loop, reference, tmp_path):
    indexed = dict(
        train_dataloader__dataset=dict(type='mmckpt.DeterministicDataset', dataset=dict(type='TinyDigits', train=True)),
        train_dataloader__sampler=dict(type='DefaultSampler', shuffle=True), train_dataloader__num_workers=2)
    work_dir = tmp_path / 'run'
    train_with_kills(loop, work_dir, indexed)
    assert digests(work_dir / 'iter_40.pth') == reference(loop, indexed)
