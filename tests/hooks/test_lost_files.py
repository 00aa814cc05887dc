"""A best, or a last file, counts when it is committed; one that is lost on the way never was one."""

from __future__ import annotations

import errno
import time

import pytest
import torch
from toy_runner import loader, make_runner, read_log

from mmckpt.hooks import CheckpointHook
from mmckpt.hooks.rank_state import RankState
from mmckpt.store import CheckpointStore
from mmckpt.store.backend import LocalBackend

WAYS = {'sync': {}, 'async': dict(async_save=True), 'slow': dict(async_save=True)}
# A best whose source is known to be lost when it is to be linked gets a file of its own: only a slow disk loses it.
CASES = [(fault, way) for fault in ('write', 'link', 'copy') for way in WAYS] + [('source', 'slow')]


@pytest.fixture
def lose(monkeypatch):
    """Let files with a text in their names be lost, each in one of the ways in which that happens."""
    def patch(fault, text, way='sync', times=99):
        create, link, left = LocalBackend.create, LocalBackend.link, [times]

        def fails(path):
            hit = text in path.name and '.pth' in path.name and left[0] > 0
            left[0] -= hit
            return hit

        def failing_create(self, path):
            # The copy that stands in for a link is made under the name of the link, too.
            if (fault != 'link') and fails(path):
                # Longer than the next epoch takes.
                time.sleep(.3 if way == 'slow' else 0)
                raise OSError(errno.ENOSPC, 'No space left on device')
            return create(self, path)

        def failing_link(self, source, target):
            if fault == 'link' and fails(target):
                raise OSError(errno.EIO, 'Input/output error')
            return False if fault == 'copy' else link(self, source, target)

        monkeypatch.setattr(LocalBackend, 'create', failing_create)
        monkeypatch.setattr(LocalBackend, 'link', failing_link)

    return patch


def ours(way='sync', **kwargs):
    arguments = dict(interval=-1, save_last=False, save_best='AP', store=dict(WAYS[way], max_failures=9))
    return dict(type='mmckpt.CheckpointHook', **{**arguments, **kwargs})


def train(work_dir, values, checkpoint, epochs=None, **kwargs):
    short = dict(train=loader(4), val=loader(4))
    runner = make_runner(work_dir, [value if isinstance(value, dict) else dict(AP=value) for value in values],
                         checkpoint=checkpoint, epochs=epochs or len(values), **short, **kwargs)
    runner.train()
    return runner


def best_of(runner, suffix=''):
    info = runner.message_hub.runtime_info
    path = info.get(f'best_ckpt{suffix}')
    return info.get(f'best_score{suffix}'), path and path.rpartition('/')[2]


def records(work_dir):
    return {record.name: record for record in CheckpointStore.read(work_dir).records()}


def bests(work_dir):
    return sorted(name for name, record in records(work_dir).items() if name.startswith('best'))


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))


def arguments_of(fault, lose, way, epoch=2):
    """Make the best of an epoch be lost; return the interval at which such a best is made in that way."""
    if fault == 'write':
        lose(fault, f'best_AP_epoch_{epoch}', way)
        return -1
    lose(fault, f'.epoch_{epoch}.pth' if fault == 'source' else f'best_AP_epoch_{epoch}', way)
    return 1


@pytest.mark.parametrize('fault, way', CASES)
def test_the_best_before_is_the_best_again(tmp_path, lose, fault, way):
    interval = arguments_of(fault, lose, way)
    runner = train(tmp_path, [.3, .9], ours(way, interval=interval))
    assert runner.epoch == 2, 'training went on'
    assert best_of(runner) == (.3, 'best_AP_epoch_1.pth')
    assert hook_of(runner).best_ckpt_path == str(tmp_path / 'best_AP_epoch_1.pth')
    assert bests(tmp_path) == ['best_AP_epoch_1.pth']
    assert 'best_AP_epoch_2.pth was not saved: the best by AP is best_AP_epoch_1.pth, as before' in read_log(tmp_path)


@pytest.mark.parametrize('fault, way', CASES)
def test_a_later_score_is_not_compared_with_the_lost_one(tmp_path, lose, fault, way):
    interval = arguments_of(fault, lose, way)
    runner = train(tmp_path, [.3, .9, .5, .4], ours(way, interval=interval))
    assert best_of(runner) == (.5, 'best_AP_epoch_3.pth')
    assert bests(tmp_path) == ['best_AP_epoch_3.pth']
    assert all(CheckpointStore.read(tmp_path).verify(record) is None for record in records(tmp_path).values())
    if interval == 1:
        # What was written after the loss does not know of it.
        file = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
        assert file['message_hub']['runtime_info']['best_score'] == .3


@pytest.mark.parametrize('way', ['sync', 'async'])
@pytest.mark.parametrize('fault', ['link', 'copy'])
def test_the_record_of_the_step_does_not_know_a_best_that_was_lost(tmp_path, lose, monkeypatch, fault, way):
    interval = arguments_of(fault, lose, way)
    train(tmp_path, [.3, .9], ours(way, interval=interval))
    record = records(tmp_path)['epoch_2.pth']
    assert record.metrics == {'AP': .9} and not record.val_pending and record.roles == ('periodic',)
    assert not [key for key in record.post_validation['infos'] if key.startswith('best')]
    monkeypatch.undo()
    runner = train(tmp_path, [.5], ours(way, interval=interval), epochs=3, resume=True)
    assert best_of(runner) == (.5, 'best_AP_epoch_3.pth') and bests(tmp_path) == ['best_AP_epoch_3.pth']


@pytest.mark.parametrize('way', WAYS)
def test_a_lost_first_best_leaves_none(tmp_path, lose, way):
    lose('write', 'best_AP_epoch_1', way)
    runner = train(tmp_path, [.9], ours(way))
    assert best_of(runner) == (None, None) and hook_of(runner).best_ckpt_path is None
    assert 'no checkpoint is the best by AP' in read_log(tmp_path)


@pytest.mark.parametrize('way', WAYS)
def test_of_several_bests_of_a_step_only_the_lost_one_is_undone(tmp_path, lose, way):
    lose('link', 'best_PCK_epoch_2', way)
    values = [dict(AP=.1, PCK=.2), dict(AP=.3, PCK=.8), dict(AP=.2, PCK=.4)]
    runner = train(tmp_path, values, ours(way, save_best=['AP', dict(metric='PCK', keep=2)]))
    assert best_of(runner, '_AP') == (.3, 'best_AP_epoch_2.pth')
    assert best_of(runner, '_PCK') == (.4, 'best_PCK_epoch_3.pth')
    assert bests(tmp_path) == ['best_AP_epoch_2.pth', 'best_PCK_epoch_1.pth', 'best_PCK_epoch_3.pth']


@pytest.mark.parametrize('fault, way', CASES)
def test_a_rewritten_best_keeps_its_old_bytes(tmp_path, lose, fault, way):
    """One file for all bests: only the second of its three writings fails."""
    lost = 'best.pth' if fault != 'source' else '.epoch_2.pth'
    spec = dict(metric='AP', filename='best')
    train(tmp_path, [.3], ours(way, save_best=spec, interval=-1 if fault == 'write' else 1))
    lose(fault, lost, way, times=1)
    runner = train(tmp_path, [.9], ours(way, save_best=spec, interval=-1 if fault == 'write' else 1), epochs=2,
                   resume=True)
    assert best_of(runner) == (.3, 'best.pth') and records(tmp_path)['best.pth'].epoch == 1
    assert torch.load(tmp_path / 'best.pth', weights_only=True)['meta']['epoch'] == 1


@pytest.mark.parametrize('way', WAYS)
def test_the_last_file_in_the_hub_is_one_that_is_there(tmp_path, lose, way):
    """A best off the interval takes the name of its step as the last one (as with stock), unless it is lost."""
    lose('write', 'epoch_3', way)
    runner = train(tmp_path, [.1, .2, .9], ours(way, interval=2))
    last = tmp_path / 'epoch_2.pth'
    assert runner.message_hub.get_info('last_ckpt') == hook_of(runner).last_ckpt == str(last) and last.is_file()


@pytest.mark.parametrize('way', WAYS)
def test_a_periodic_file_that_is_lost_is_not_the_last_nor_a_kept_one(tmp_path, lose, way):
    lose('source', 'epoch_2', way)
    runner = train(tmp_path, [.1, .2], ours(way, interval=1, max_keep_ckpts=2, save_best=None))
    hook = hook_of(runner)
    assert runner.message_hub.get_info('last_ckpt') == hook.last_ckpt == str(tmp_path / 'epoch_1.pth')
    assert runner.message_hub.get_info('keep_ckpt_ids') == list(hook.keep_ckpt_ids) == [1]


@pytest.mark.parametrize('way', WAYS)
def test_the_end_is_saved_again_if_its_file_was_lost(tmp_path, lose, way):
    lose('source', 'epoch_2', way, times=1)
    runner = train(tmp_path, [.1, .2], ours(way, interval=1, save_last=True, save_best=None))
    assert runner.message_hub.get_info('last_ckpt') == str(tmp_path / 'epoch_2.pth')
    assert list(records(tmp_path)) == ['epoch_1.pth', 'epoch_2.pth']


def test_a_best_without_optimizer_takes_no_name_that_nothing_gets(tmp_path):
    spec = dict(metric='AP', save_optimizer=False)
    runner = train(tmp_path, [.1, .2, .9], ours(interval=2, save_best=spec))
    assert runner.message_hub.get_info('last_ckpt') == str(tmp_path / 'epoch_2.pth')


def test_what_is_published_at_the_end_is_there(tmp_path, lose):
    lose('link', 'best_AP_epoch_2', 'async')
    train(tmp_path, [.3, .9], ours('async', interval=1, published_keys=['meta', 'state_dict']))
    assert len(list(tmp_path.glob('best_AP_epoch_1-*.pth'))) == 1


def test_a_state_saved_at_an_exception_does_not_know_a_lost_best(tmp_path, lose):
    def dying():
        yield from ([dict(AP=.3), dict(AP=.9)])
        raise RuntimeError('a crash in the validation')

    lose('write', 'best_AP_epoch_2', 'slow')
    runner = make_runner(tmp_path, dying(), checkpoint=ours('slow', save_on_exception=True), epochs=3)
    with pytest.raises(RuntimeError, match='a crash in'):
        runner.train()
    saved, = tmp_path.glob('exception_iter_*.pth')
    assert torch.load(saved, weights_only=True)['message_hub']['runtime_info']['best_score'] == .3


def test_with_skip_a_file_is_left_out_that_would_hold_a_best_on_its_way(tmp_path, monkeypatch, lose):
    """The best before may be lost while the ranks bring their state together: too late to take it back."""
    lose('write', 'best_AP_iter_1', 'slow')
    gather = RankState.gather

    def late(self, runner):
        if runner.epoch == 1:
            hook_of(runner).store.join()
        gather(self, runner)

    monkeypatch.setattr(RankState, 'gather', late)
    spec = ours(by_epoch=False, interval=2, store=dict(async_save=True, on_busy='skip', max_failures=9))
    runner = train(tmp_path, [.3, .2], spec)
    assert 'iter_2.pth is skipped' in read_log(tmp_path)
    assert best_of(runner) == (.2, 'best_AP_iter_2.pth') and list(records(tmp_path)) == ['best_AP_iter_2.pth']


def test_with_skip_the_end_of_a_run_is_not_left_out(tmp_path, monkeypatch, lose):
    create = LocalBackend.create

    def slow(self, path):
        time.sleep(.3 if 'best' in path.name else 0)
        return create(self, path)

    monkeypatch.setattr(LocalBackend, 'create', slow)
    train(tmp_path, [.3, .9], ours(interval=9, save_last=True, store=dict(async_save=True, on_busy='skip')))
    assert records(tmp_path)['epoch_2.pth'].epoch == 2


def test_with_skip_a_best_that_was_skipped_is_none(tmp_path, monkeypatch):
    create = LocalBackend.create

    def slow(self, path):
        time.sleep(.3 if '.epoch_2' in path.name else 0)
        return create(self, path)

    monkeypatch.setattr(LocalBackend, 'create', slow)
    spec = dict(metric='AP', save_optimizer=False, begin=2)
    runner = train(tmp_path, [.3, .9], ours(interval=2, save_best=spec, store=dict(async_save=True, on_busy='skip')))
    assert best_of(runner) == (None, None) and list(records(tmp_path)) == ['epoch_2.pth']
