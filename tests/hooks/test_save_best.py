"""Specs of ``save_best``: combined and smoothed scores, the best k, names, state; through a real Runner."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from forked import on_two_ranks
from mmengine.config import Config
from mmengine.dist import get_rank
from toy_runner import Scripted, loader, make_runner, read_log

from mmckpt.errors import MetricNotFoundError
from mmckpt.hooks import CheckpointHook
from mmckpt.hooks.monitored_metrics import warn_of_impossible
from mmckpt.store import CheckpointStore
from mmckpt.store.backend import LocalBackend


def ours(*save_best, **kwargs):
    arguments = {'interval': -1, 'save_last': False, **kwargs}
    return dict(type='mmckpt.CheckpointHook', **arguments, save_best=list(save_best))


def pck(*values):
    return [dict(PCK=value) for value in values]


def names(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def records(work_dir):
    return {record.name: record for record in CheckpointStore.read(work_dir).records()}


def train(work_dir, values, checkpoint, epochs=None, **kwargs):
    runner = make_runner(work_dir, values, checkpoint=checkpoint, epochs=epochs or len(values), **kwargs)
    runner.train()
    return runner


# Which steps are kept ---------------------------------------------------------------


@pytest.mark.parametrize('values, spec, kept', [
    ([.1, .5, .3, .4, .2], dict(keep=3), [2, 3, 4]),
    ([.5, .5, .5], dict(keep=2), [1, 2]),                                       # of equal scores the older stays
    ([.3, .1, .2], dict(keep=-1), [1, 2, 3]),                                   # R21: -1 keeps all
    ([.5, .55, .58, .7], dict(min_delta=.1), [4]),
    ([.9, .1, .2], dict(begin=2), [3]),
    ([.1, .9, .2, .3, .4], dict(smooth=dict(type='median', n=3)), [2]),         # smoothed .1 .5 .2 .3 .3
    ([.1, math.nan, None, math.inf, .2], dict(keep=3), [1, 5]),
    ([0.0, -.1], {}, [1]),                                                       # R22: 0.0 is a value
    ([torch.tensor(.1), np.float32(.3), torch.tensor([.2]), 0], dict(keep=2), [2, 3]),
    ([.5, .2, .3], dict(rule='less', keep=2), [2, 3]),
])
def test_the_best_steps_are_kept(tmp_path, values, spec, kept):
    train(tmp_path, pck(*values), ours(dict(metric='PCK', **spec)))
    assert names(tmp_path) == [f'best_PCK_epoch_{step}.pth' for step in kept]


def test_each_metric_has_files_of_its_own(tmp_path):
    values = [dict(PCK=p, loss=loss) for p, loss in [(.1, 3.), (.4, 2.), (.3, 1.), (.2, 4.)]]
    runner = train(tmp_path, values, ours('PCK', dict(metric='loss', keep=2)))
    assert names(tmp_path) == ['best_PCK_epoch_2.pth', 'best_loss_epoch_2.pth', 'best_loss_epoch_3.pth']
    assert runner.message_hub.get_info('best_score_PCK') == .4 and runner.message_hub.get_info('best_score_loss') == 1.
    assert (tmp_path / 'best_PCK_epoch_2.pth').samefile(tmp_path / 'best_loss_epoch_2.pth')


def test_a_combined_score_chooses_and_is_in_the_record_with_its_metrics(tmp_path):
    spec = dict(name='score', expr='0.5 * "coco/AP" - loss', rule='greater')
    train(tmp_path, [{'coco/AP': .8, 'loss': .1}, {'coco/AP': .9, 'loss': .5}], ours(spec))
    assert names(tmp_path) == ['best_score_epoch_1.pth']
    record = records(tmp_path)['best_score_epoch_1.pth']
    assert record.scores == {'score': pytest.approx(.3)} and record.rules == {'score': 'greater'}
    assert record.metrics == {'coco/AP': .8, 'loss': .1} and record.roles == ('best:score',)


def test_a_smoothed_score_and_the_metric_are_both_in_the_record(tmp_path):
    train(tmp_path, pck(.2, .6), ours(dict(metric='PCK', smooth=.5)))
    record = records(tmp_path)['best_PCK_epoch_2.pth']
    assert record.scores['PCK'] == pytest.approx((.5 * .2 + .6) / 1.5) and record.metrics['PCK'] == .6
    assert '(smoothed; 0.6000 in this validation)' in read_log(tmp_path)


def test_a_metric_can_be_judged_twice(tmp_path):
    train(tmp_path, pck(.1, .9, .2), ours('PCK', dict(name='steady', metric='PCK', smooth=dict(type='median', n=3))))
    assert names(tmp_path) == ['best_PCK_epoch_2.pth', 'best_steady_epoch_2.pth']


def test_what_retention_saves_is_reported(tmp_path):
    train(tmp_path, pck(*[i / 100 for i in range(1, 9)]), ours(dict(metric='PCK', keep=3)))
    assert len(names(tmp_path)) == 3
    assert 'Checkpoints of this run: 3 files' in read_log(tmp_path)
    assert '5 more were dropped, which saves' in read_log(tmp_path)


def test_a_file_without_optimizer_is_written_apart(tmp_path):
    spec = dict(metric='PCK', save_optimizer=False)
    train(tmp_path, pck(.1), ours(spec, dict(name='full', metric='PCK'), interval=1))
    small, full = (torch.load(tmp_path / f'best_{n}_epoch_1.pth', weights_only=True) for n in ('PCK', 'full'))
    assert 'optimizer' not in small and 'optimizer' in full
    assert (tmp_path / 'best_full_epoch_1.pth').samefile(tmp_path / 'epoch_1.pth')
    assert records(tmp_path)['best_PCK_epoch_1.pth'].metrics == {'PCK': .1}


# Names --------------------------------------------------------------------------------


@pytest.mark.parametrize('filename, name', [
    ('best_pck_e{epoch:03d}_pck{PCK:.4f}_valloss{loss:.2f}', 'best_pck_e001_pck0.8123_valloss0.12.pth'),   # R18
    ('multi-vae-{epoch:02d}-{loss:.4f}', 'multi-vae-01-0.1234.pth'),                                       # R28
    ('{name}-{score:.2f}-{iter}-{lr:.2f}', 'PCK-0.81-3-0.05.pth'),
    ('{optim_wrapper.optimizer.type}/{randomness.seed}', 'SGD_7.pth'),
    ('{coco/AP:.1f}.pth', '0.5.pth'),
])
def test_names_carry_values(tmp_path, filename, name):
    values = [{'PCK': .8123, 'loss': .1234, 'coco/AP': torch.tensor(.5)}]
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD')), randomness=dict(seed=7)))
    runner = train(tmp_path, values, ours(dict(metric='PCK', filename=filename)), cfg=cfg)
    assert names(tmp_path) == [name]
    assert runner.message_hub.get_info('best_ckpt') == str(tmp_path / name)


def test_names_that_collide_are_told_apart(tmp_path):
    spec = dict(metric='PCK', filename='best_{PCK:.1f}', keep=2)
    train(tmp_path, [dict(PCK=p, AP=.1) for p in (.51, .52)], ours(spec, dict(metric='AP', filename='best_{PCK:.1f}')))
    assert names(tmp_path) == ['best_0.5-v2.pth', 'best_0.5-v3.pth', 'best_0.5.pth']
    assert {name: record.epoch for name, record in records(tmp_path).items() if 'best:PCK' in record.roles} == {
        'best_0.5.pth': 1, 'best_0.5-v3.pth': 2}


def test_one_best_under_one_name_is_replaced(tmp_path):
    train(tmp_path, pck(.1, .2, .3), ours(dict(metric='PCK', filename='best')))
    assert names(tmp_path) == ['best.pth'] and records(tmp_path)['best.pth'].epoch == 3


def test_a_file_of_the_users_own_is_not_replaced(tmp_path):
    (tmp_path / 'best.pth').write_bytes(b'mine')
    train(tmp_path, pck(.1, .2), ours(dict(metric='PCK', filename='best')))
    assert (tmp_path / 'best.pth').read_bytes() == b'mine' and names(tmp_path) == ['best-v2.pth', 'best.pth']


def test_a_name_never_takes_that_of_a_periodic_file(tmp_path):
    train(tmp_path, pck(.1, .2), ours(dict(metric='PCK', filename='epoch_{epoch}'), interval=1))
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2-v2.pth', 'epoch_2.pth']


def test_a_name_never_takes_that_of_a_periodic_file_of_another_step(tmp_path):
    # Three iterations an epoch: the best of epoch 1 would be called as the file of epoch 3.
    train(tmp_path, pck(.9, .1, .2), ours(dict(metric='PCK', filename='epoch_{iter}'), interval=1))
    found = records(tmp_path)
    assert {name for name in found if 'best:PCK' in found[name].roles} == {'epoch_3-v2.pth'}
    assert found['epoch_3-v2.pth'].epoch == 1 and found['epoch_3.pth'].epoch == 3


def test_a_long_expression_without_a_name_makes_a_name_that_fits(tmp_path):
    train(tmp_path, pck(.1), ours(dict(expr='0.1 * PCK + ' * 40 + 'PCK', rule='greater')))
    name, = names(tmp_path)
    assert name.startswith('best_0.1 _ PCK + 0.1') and name.endswith('_epoch_1.pth') and len(name) < 160


def test_a_best_that_could_not_be_written_is_no_best(tmp_path, monkeypatch):
    real = LocalBackend.create

    def full_at_epoch_2(self, path):
        if 'epoch_2' in path.name:
            raise OSError(28, 'No space left on device')
        return real(self, path)

    monkeypatch.setattr(LocalBackend, 'create', full_at_epoch_2)
    # Three selections that would fail at one step are one failure; max_failures=3 would end the training.
    hook = ours('PCK', dict(name='a', metric='PCK'), dict(name='b', metric='PCK', keep=2))
    runner = train(tmp_path, pck(.1, .9, .5, .2), hook)
    assert names(tmp_path) == [f'best_{n}.pth' for n in ('PCK_epoch_3', 'a_epoch_3', 'b_epoch_3', 'b_epoch_4')]
    assert runner.message_hub.get_info('best_score_PCK') == .5
    assert runner.message_hub.get_info('best_ckpt_PCK') == str(tmp_path / 'best_PCK_epoch_3.pth')


def test_an_unknown_field_lists_the_metrics(tmp_path):
    runner = make_runner(tmp_path, pck(.1), checkpoint=ours(dict(metric='PCK', filename='{pck:.2f}')), epochs=1)
    with pytest.raises(MetricNotFoundError, match=r"names 'pck'.*Did you mean 'PCK'"):
        runner.train()


def test_a_metric_in_a_name_may_be_absent_later(tmp_path):
    values = [dict(PCK=.1, AP=.5), dict(PCK=.2)]
    train(tmp_path, values, ours(dict(metric='PCK', keep=2, filename='{epoch}_{AP:.1f}')))
    assert names(tmp_path) == ['1_0.5.pth', '2_nan.pth']


# Resume -------------------------------------------------------------------------------


@pytest.mark.parametrize('split', [1, 3])
@pytest.mark.parametrize('interval', [-1, 1])
@pytest.mark.parametrize('spec', [
    dict(keep=2), dict(smooth=.6, keep=2), dict(smooth=dict(type='median', n=3)), dict(min_delta=.15)])
def test_a_resume_judges_as_if_there_had_been_none(tmp_path, split, interval, spec):
    values, hook = pck(.3, .5, .2, .4, .45), ours(dict(metric='PCK', **spec), interval=interval, save_last=True)
    train(tmp_path / 'straight', values, hook)
    train(tmp_path / 'resumed', values[:split], hook)
    runner = train(tmp_path / 'resumed', values[split:], hook, epochs=5, resume=True)
    assert runner.epoch == 5
    best = [[name for name in names(tmp_path / run) if name.startswith('best')] for run in ('straight', 'resumed')]
    assert best[0] == best[1] != []
    straight, resumed = (records(tmp_path / run) for run in ('straight', 'resumed'))
    assert [straight[name].scores for name in best[0]] == [resumed[name].scores for name in best[0]]


def test_a_best_at_epoch_67_survives_a_resume_at_100(tmp_path):
    values = [.9 if epoch == 67 else .5 - epoch / 1000 for epoch in range(1, 101)]
    hook = ours('PCK', interval=50, save_last=True, max_keep_ckpts=1)
    one_batch = dict(train=loader(4), val=loader(4), log_level='WARNING')
    train(tmp_path, pck(*values), hook, **one_batch)
    assert 'best_PCK_epoch_67.pth' in names(tmp_path)
    bytes_of_67 = (tmp_path / 'best_PCK_epoch_67.pth').read_bytes()
    runner = train(tmp_path, pck(.6, .89, .9), hook, epochs=103, resume=True, **one_batch)
    assert runner.message_hub.get_info('best_score') == .9
    assert runner.message_hub.get_info('best_ckpt') == str(tmp_path / 'best_PCK_epoch_67.pth')
    assert (tmp_path / 'best_PCK_epoch_67.pth').read_bytes() == bytes_of_67
    assert [n for n in names(tmp_path) if n.startswith('best')] == ['best_PCK_epoch_67.pth']
    better = train(tmp_path, pck(.95), hook, epochs=104, resume=True, **one_batch)
    assert better.message_hub.get_info('best_score') == .95
    assert [n for n in names(tmp_path) if n.startswith('best')] == ['best_PCK_epoch_104.pth']


def test_a_validation_that_died_is_made_up_and_judged_once(tmp_path):
    def dying():
        yield from pck(.3, .5)
        raise RuntimeError('a crash in the validation')

    hook = ours(dict(metric='PCK', keep=2, smooth=.6), interval=1)
    train(tmp_path / 'straight', pck(.3, .5, .2, .4), hook)
    with pytest.raises(RuntimeError, match='a crash in'):
        train(tmp_path / 'resumed', dying(), hook, epochs=4)
    train(tmp_path / 'resumed', pck(.2, .4), hook, epochs=4, resume=True)
    straight, resumed = ({n: (r.scores, r.metrics) for n, r in records(tmp_path / run).items()}
                         for run in ('straight', 'resumed'))
    assert straight == resumed


@pytest.mark.parametrize('interval', [-1, 1])
def test_a_rebuilt_index_knows_metric_score_and_rule(tmp_path, interval):
    odd = dict(name='odd', expr='"coco/AP" * 2', rule='greater', filename='x{epoch}')
    hook = ours(dict(metric='coco/AP', keep=2), odd, interval=interval, save_last=True)
    values = [{'coco/AP': value} for value in (.3, .5, .4, .1)]
    train(tmp_path, values, hook)
    (tmp_path / 'mmckpt_index.json').unlink()
    found = {n: (r.roles, r.scores, r.rules) for n, r in records(tmp_path).items() if r.scores}
    assert found['best_coco_AP_epoch_2.pth'] == (('best:coco/AP',), {'coco/AP': .5}, {'coco/AP': 'greater'})
    assert found['x2.pth'] == (('best:odd',), {'odd': 1.}, {'odd': 'greater'})
    # The last validation was known to the index only, so it runs once more.
    runner = train(tmp_path, [{'coco/AP': value} for value in (.1, .45)], hook, epochs=5, resume=True)
    assert runner.message_hub.get_info('best_score_coco/AP') == .5
    assert [n for n in names(tmp_path) if 'best' in n] == ['best_coco_AP_epoch_2.pth', 'best_coco_AP_epoch_5.pth']


def test_a_selection_that_changed_says_so(tmp_path):
    train(tmp_path, pck(.1, .2), ours(dict(name='s', expr='PCK + 1', rule='greater', smooth=.5), interval=1))
    changed = ours(dict(name='s', expr='PCK * 2', rule='greater', smooth=.5), interval=1)
    train(tmp_path, pck(.3), changed, epochs=3, resume=True)
    assert "'s' is another score than in the checkpoint" in read_log(tmp_path)


# Arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize('save_best, error, message', [
    (dict(keep=3), AssertionError, '"save_best" should be'),
    (['AP', dict(rule='less')], AssertionError, '"save_best" should be'),
    (dict(metric='AP', expr='AP'), ValueError, 'both metric and expr'),
    (dict(metric='AP', kep=3), ValueError, "Did you mean 'keep'"),
    (dict(metric='AP', keep=0), ValueError, 'keep of .AP. must be'),
    (dict(metric='AP', smooth=1.5), ValueError, 'smooth must be'),
    (dict(metric='AP', rule='more'), ValueError, 'rule of .AP. must be'),
    (dict(metric='AP', filename='{epoch'), ValueError, 'is not a template'),
    (dict(metric='AP', filename='best_{}'), ValueError, 'a field without a name'),
    (dict(expr='AP +* PCK', rule='less'), ValueError, 'at character 5'),
    (dict(expr='AP + PCK', name='s'), ValueError, "cannot be inferred: set rule='greater'"),
    (dict(metric='recall'), ValueError, 'Cannot infer the rule'),
    (['AP', dict(metric='AP', smooth=.5)], ValueError, 'two selections named'),
])
def test_specs_are_checked_at_construction(save_best, error, message):
    with pytest.raises(error, match=message):
        CheckpointHook(save_best=save_best)


def test_a_metric_of_an_expression_that_does_not_exist_is_named(tmp_path):
    hook = ours(dict(name='s', expr='AP + ap2', rule='greater'))
    runner = make_runner(tmp_path, [dict(AP=.1)], checkpoint=hook, epochs=1)
    with pytest.raises(MetricNotFoundError, match="'ap2' is not among.*Did you mean 'AP'.*stand in quotes"):
        runner.train()


def test_the_old_rule_argument_serves_specs_too():
    hook = CheckpointHook(1, save_best=['AP', dict(metric='recall')], rule=['less', 'greater'])
    assert hook.rules == ['less', 'greater'] and hook.interval == 1


def test_a_rebuilt_run_in_another_place_is_found_by_its_bests(tmp_path):
    train(tmp_path / 'a', pck(.3, .5), ours(dict(metric='PCK', keep=2)))
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    (tmp_path / 'b/mmckpt_index.json').unlink()
    assert {r.scores['PCK'] for r in records(tmp_path / 'b').values()} == {.3, .5}


class Prefixed(Scripted):
    """Declares the prefix of its names, as most metrics do."""

    def __init__(self, prefix, values):
        super().__init__(values)
        self.prefix = prefix


@pytest.mark.parametrize('prefixes, monitored, warned', [
    (['coco'], 'AP', True), (['coco'], 'coco/AP', False), (['coco', 'pck'], 'pck/PCK', False),
    (['coco', None], 'AP', False), (['coco'], dict(expr='"coco/AP" + AP', name='s', rule='greater'), True)])
def test_a_metric_that_no_prefix_allows_is_named_before_training(tmp_path, prefixes, monitored, warned):
    runner = make_runner(tmp_path, [], checkpoint=ours(monitored), epochs=1)
    runner.val_loop.evaluator.metrics = [Prefixed(prefix, [{'AP': .5}]) for prefix in prefixes]
    warn_of_impossible(runner, CheckpointHook(save_best=[monitored]).selections)
    said = "no metric of the evaluator gives 'AP'" in read_log(tmp_path)
    assert said == warned
    if warned:
        assert "Did you mean 'coco/AP'?" in read_log(tmp_path)


def test_two_ranks_keep_the_same_files_and_scores(tmp_path):
    """Also after one of the files, that of 0.9, is lost in the background."""
    on_two_ranks(keep_two, tmp_path)
    ranks = [torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0][0] == {(3, 6): .5, (4, 8): .4}
    assert ranks[0][2].endswith('b_0.5.pth') and ranks[0][3] == .5
    assert [name for name in names(tmp_path) if name.startswith('b_')] == ['b_0.4.pth', 'b_0.5.pth']


def keep_two(folder):
    """A rank: trains, and writes what its hook holds."""
    create = LocalBackend.create

    def losing(self, path):
        if 'b_0.9' in path.name:
            raise OSError(28, 'No space left on device')
        return create(self, path)

    LocalBackend.create = losing
    spec = dict(metric='AP', keep=2, smooth=0.0, filename='b_{AP:.1f}')
    runner = make_runner(folder, [dict(AP=v) for v in (.1, .9, .5, .4)], epochs=4, launcher='pytorch',
                         checkpoint=dict(type='mmckpt.CheckpointHook', interval=-1, save_last=False, save_best=spec,
                                         store=dict(async_save=True)),
                         cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)))
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
    state = (hook._best._tops['AP'].scores, hook.state_dict(), hook.best_ckpt_path,
             runner.message_hub.get_info('best_score'))
    torch.save(state, folder / f'rank{get_rank()}.pth')


def test_the_monitor_watches_the_metric_of_a_spec(tmp_path):
    specs = [dict(name='steady', metric='PCK', smooth=.5), dict(name='s', expr='PCK + 1', rule='greater')]
    hooks = [dict(type='mmckpt.TrainingMonitorHook', performance_drop=dict(threshold=.05))]
    train(tmp_path, pck(.9, .2), ours(*specs), hooks=hooks)
    assert 'PCK' in read_log(tmp_path).split('performance')[-1] and 'drop' in read_log(tmp_path)


def test_stochastic_weight_averaging_is_what_a_best_holds_and_survives_a_resume(tmp_path):
    swa = [dict(type='EMAHook', ema_type='StochasticWeightAverage', begin_epoch=1), dict(type='mmckpt.RNGStateHook')]
    values, hook = pck(.1, .2, .3, .4), ours('PCK', interval=1, max_keep_ckpts=1)
    train(tmp_path / 'straight', values, hook, hooks=swa)
    train(tmp_path / 'resumed', values[:3], hook, hooks=swa)
    train(tmp_path / 'resumed', values[3:], hook, epochs=4, resume=True, hooks=swa)
    straight, resumed = (torch.load(tmp_path / run / 'best_PCK_epoch_4.pth', weights_only=True)
                         for run in ('straight', 'resumed'))
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, resumed[part][key]) for key, value in straight[part].items())
    assert not torch.equal(straight['state_dict']['head.weight'], straight['ema_state_dict']['module.head.weight'])
