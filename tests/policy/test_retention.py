"""Tables for the retention policies."""

from __future__ import annotations

import math

import pytest

from mmckpt.policy.retention import (
    AnyOf,
    KeepAll,
    KeepBest,
    KeepEvery,
    KeepLast,
    KeepNone,
    KeepRoles,
    to_drop,
)
from mmckpt.store.record import Record

PERIODIC, AP = ('periodic',), ('best:AP',)


def record(name, seq, roles=PERIODIC, epoch=None, **scores):
    epoch = seq if epoch is None else epoch
    return Record(name, seq, run=1, attempt=1, epoch=epoch, iter=10 * epoch, time=0.0, size=1, digest='',
                  roles=roles, scores=scores)


EPOCHS = [record(f'epoch_{i}', i) for i in range(1, 7)]
BESTS = [record('a', 1, AP, AP=0.5), record('b', 2, AP, AP=0.7), record('c', 3, AP, AP=0.7),
         record('d', 4, AP, AP=0.1)]


@pytest.mark.parametrize('policy, records, kept', [
    (KeepAll(), EPOCHS, {f'epoch_{i}' for i in range(1, 7)}),
    (KeepLast(2), EPOCHS, {'epoch_5', 'epoch_6'}),
    (KeepLast(9), EPOCHS[:2], {'epoch_1', 'epoch_2'}),
    (KeepLast(1, 'best:AP'), BESTS, {'d'}),
    (KeepBest('best:AP', 1, 'greater'), BESTS, {'b'}),
    (KeepBest('best:AP', 2, 'greater'), BESTS, {'b', 'c'}),
    (KeepBest('best:AP', 3, 'greater'), BESTS, {'b', 'c', 'a'}),
    (KeepBest('best:AP', 1, 'less'), BESTS, {'d'}),
    (KeepBest('best:AP', -1, 'less'), BESTS, {'a', 'b', 'c', 'd'}),
    (KeepBest('best:AP', 1, 'greater'), EPOCHS, set()),
    (KeepEvery(3, by_epoch=True), EPOCHS, {'epoch_3', 'epoch_6'}),
    (KeepEvery(40, by_epoch=False), EPOCHS, {'epoch_4'}),
    (KeepRoles('best:AP'), [*BESTS[:1], *EPOCHS[:1]], {'a'}),
    (KeepNone('preempted'), EPOCHS, set()),
    (AnyOf(KeepLast(1), KeepEvery(2, by_epoch=True)), EPOCHS, {'epoch_2', 'epoch_4', 'epoch_6'}),
])
def test_policy_keeps(policy, records, kept):
    assert policy(records) == kept
    assert policy(list(reversed(records))) == kept, 'the order of the records must not matter'


@pytest.mark.parametrize('rule, kept', [('greater', {'high', 'high_too'}), ('less', {'low'})])
def test_all_files_of_a_step_stand_or_fall_together(rule, kept):
    records = [record('low', 1, AP, epoch=1, AP=0.2), record('high', 2, AP, epoch=2, AP=0.9),
               record('high_too', 3, AP, epoch=2, AP=0.9)]
    assert KeepBest('best:AP', 1, rule)(records) == kept


@pytest.mark.parametrize('rule', ['greater', 'less'])
@pytest.mark.parametrize('worthless', [{'AP': math.nan}, {}])
def test_a_score_that_is_no_number_comes_last(rule, worthless):
    records = [record('nan', 1, AP, **worthless), record('zero', 2, AP, AP=0.0),
               record('inf', 3, AP, AP=math.inf)]
    assert KeepBest('best:AP', 2, rule)(records) == {'zero', 'inf'}


@pytest.mark.parametrize('records, policy, protected, dropped', [
    ([], KeepLast(1), (), []),
    (EPOCHS, KeepLast(2), (), ['epoch_1', 'epoch_2', 'epoch_3', 'epoch_4']),
    (EPOCHS, KeepLast(2), ('epoch_1', 'not there'), ['epoch_2', 'epoch_3', 'epoch_4']),
    (EPOCHS, KeepAll(), (), []),
    # The newest stays even if no policy wants it.
    (EPOCHS[:2], KeepNone('periodic'), (), ['epoch_1']),
    # A role that no policy judges keeps its file, alone or beside one that is judged.
    ([record('foreign', 1, ('foreign',)), *EPOCHS[1:3]], KeepLast(1), (), ['epoch_2']),
    ([record('both', 1, ('periodic', 'best:AP')), *EPOCHS[1:3]], KeepLast(1), (), ['epoch_2']),
    ([record('bare', 1, ()), *EPOCHS[1:3]], KeepLast(1), (), ['epoch_2']),
    # One that two policies judge goes when neither wants it.
    ([record('both', 1, ('periodic', 'best:AP'), AP=0.1), record('better', 2, AP, AP=0.2), *EPOCHS[2:3]],
     AnyOf(KeepLast(1), KeepBest('best:AP', 1, 'greater')), (), ['both']),
])
def test_what_is_dropped(records, policy, protected, dropped):
    assert [r.name for r in to_drop(records, policy, protected)] == dropped


@pytest.mark.parametrize('make', [
    lambda: KeepLast(0), lambda: KeepLast(True), lambda: KeepLast(2.0),
    lambda: KeepBest('best:AP', 0, 'greater'), lambda: KeepBest('best:AP', -2, 'less'),
    lambda: KeepEvery(0, by_epoch=True),
])
def test_a_count_below_one_is_refused(make):
    with pytest.raises(ValueError, match='at least 1.*the newest checkpoint is always kept'):
        make()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule='greater' or 'less', but got 'max'"):
        KeepBest('best:AP', 1, 'max')


@pytest.mark.parametrize('policy, most', [
    (KeepLast(3), 3), (KeepAll(), None), (KeepBest('best:AP', 2, 'less'), 2),
    (KeepBest('best:AP', -1, 'less'), None),
    (KeepEvery(5, by_epoch=True), None), (KeepRoles('x'), None), (KeepNone('x'), 0),
    (AnyOf(KeepLast(3), KeepBest('best:AP', 2, 'less')), 5), (AnyOf(KeepLast(3), KeepAll()), None),
])
def test_the_number_of_files_is_foretold(policy, most):
    assert policy.most_files() == most
