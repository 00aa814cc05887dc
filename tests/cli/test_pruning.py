"""Which checkpoints a pruning drops, by tables of records."""

from __future__ import annotations

import math

import pytest

from mmckpt.cli.pruning import choose_rules, plan_run, witnesses
from mmckpt.errors import UsageError
from mmckpt.store.record import Record


def record(step, *roles, run=1, **scores):
    name = f"{'best' if roles and roles[0].startswith('best') else 'epoch'}_{step}.pth"
    return Record(name, step, run, 1, step, 10 * step, 0.0, 5, '', roles, scores=scores)


PERIODIC = [record(step, 'periodic') for step in (1, 2, 3, 4)]
BEST = [record(step, 'best:AP', AP=ap) for step, ap in ((1, 0.1), (2, 0.4), (3, 0.4), (4, 0.3))]
BOTH = record(1, 'periodic', 'best:AP', AP=0.9)


@pytest.mark.parametrize('records, last, best, pointed, dropped', [
    (PERIODIC, 2, None, None, ['epoch_1.pth', 'epoch_2.pth']),
    (PERIODIC, 9, None, None, []),
    (PERIODIC, None, 1, None, []),
    (PERIODIC, 1, None, 'epoch_2.pth', ['epoch_1.pth', 'epoch_3.pth']),
    (BEST, None, 1, None, ['best_1.pth', 'best_3.pth']),
    (BEST, 1, None, None, []),
    ([BOTH, *PERIODIC[1:]], 1, None, None, ['epoch_2.pth', 'epoch_3.pth']),
    ([BOTH, *PERIODIC[1:]], 1, 1, None, ['epoch_2.pth', 'epoch_3.pth']),
    ([record(1, 'best:AP'), *BEST[1:]], None, 1, None, ['best_3.pth']),
    ([record(1, 'best:AP', AP=math.nan), *BEST[1:]], None, 1, None, ['best_1.pth', 'best_3.pth']),
    ([record(1, 'foreign'), record(2, 'interrupted'), *PERIODIC[2:]], 1, 1, None, ['epoch_3.pth']),
    ([], 1, 1, None, [])])
def test_what_goes(records, last, best, pointed, dropped):
    plan = plan_run(records, last, best, {'AP': 'greater'}, pointed)
    assert [r.name for r in plan.drop] == dropped
    assert set(plan.kept) | set(dropped) == {r.name for r in records}
    assert all(plan.kept.values()), 'each one that stays has a reason'


def test_reasons_name_every_policy_that_keeps_a_file():
    kept = plan_run([*PERIODIC, record(5, 'best:AP')], 1, 2, {'AP': 'greater'}, 'epoch_1.pth').kept
    assert kept == {'epoch_1.pth': 'last_checkpoint names it', 'epoch_4.pth': 'last 1',
                    'best_5.pth': 'best 2 by AP, its score is not known, the newest'}


@pytest.mark.parametrize('metric, scores, given, rule', [
    ('AP', (0.1, 0.2), {}, 'greater'),
    ('EPE', (3.0, 2.0), {}, 'less'),
    ('AP', (0.3, 0.2), dict(AP='less'), 'less'),
    ('my_score', (0.3, 0.2), dict(my_score='less'), 'less'),
    ('AP', (0.2, 0.2), {}, 'greater'),
    ('AP', (0.3,), {}, 'greater'),
    ('AP', (math.nan, 0.3), {}, 'greater')])
def test_rules_come_from_the_user_or_the_name(metric, scores, given, rule):
    records = [record(i, f'best:{metric}', **{metric: score}) for i, score in enumerate(scores, start=1)]
    assert choose_rules(records, given) == {metric: rule}


@pytest.mark.parametrize('metric, scores, given, said', [
    ('my_score', (0.1, 0.2), {}, '--rule my_score=greater or --rule my_score=less'),
    ('AP', (0.3, 0.2, 0.1), {}, 'by its name, greater values of .AP. are better, but each'),
    ('AP', (0.1, 0.2), dict(Ap='less'), "Did you mean 'AP'")])
def test_a_rule_that_cannot_be_told_is_asked_for(metric, scores, given, said):
    records = [record(i, f'best:{metric}', **{metric: score}) for i, score in enumerate(scores, start=1)]
    with pytest.raises(UsageError, match=said):
        choose_rules(records, given)


def test_a_rule_that_the_records_hold_needs_no_guess():
    records = [Record(f'best_{e}.pth', e, 1, 1, e, e, 0., 5, '', ('best:odd',), scores={'odd': float(e)},
                      rules={'odd': 'less'}) for e in (1, 2)]
    assert choose_rules(records, {}) == {'odd': 'less'}
    assert choose_rules(records, {'odd': 'greater'}) == {'odd': 'greater'}


def test_a_fresh_run_that_begins_worse_contradicts_no_rule():
    records = [record(1, 'best:AP', AP=0.9), record(2, 'best:AP', run=2, AP=0.1)]
    assert choose_rules(records, {}) == {'AP': 'greater'}


def test_each_role_of_which_a_file_goes_has_witnesses_newest_first():
    drop, kept = [PERIODIC[0], BEST[0]], [PERIODIC[2], PERIODIC[3], BEST[1]]
    assert {role: [r.name for r in found] for role, found in witnesses(drop, kept).items()} == {
        'periodic': ['epoch_4.pth', 'epoch_3.pth'], 'best:AP': ['best_2.pth']}
