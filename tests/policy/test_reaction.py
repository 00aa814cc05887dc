"""What the arguments that make the monitor act may be, and how skips are counted."""

import pytest

from mmckpt.policy.reaction import Reaction, SkipCount, read_reaction


@pytest.mark.parametrize('given, expected', [
    ('warn', Reaction()),
    ('stop', Reaction('stop')),
    (dict(type='skip', max_skips=3), Reaction('skip', max_skips=3)),
    (dict(type='rollback', skip_iters=0, lr_factor=.1, max_rollbacks=1), Reaction(
        'rollback', skip_iters=0, lr_factor=.1, max_rollbacks=1)),
])
def test_a_reaction_is_a_name_or_a_dict(given, expected):
    assert read_reaction('on_nan', given) == expected


@pytest.mark.parametrize('given, text', [
    ('Skip', r"on_nan must be 'warn', 'skip', 'stop' or 'rollback', .* but got 'Skip'"),
    (True, 'but got True'),
    (dict(max_skips=3), "'type'"),
    (dict(type='stop', max_skips=3), "type='stop' has no parameter 'max_skips'"),
    (dict(type='rollback', max_rollback=3), "Did you mean 'max_rollbacks'"),
    (dict(type='skip', max_skips=0), 'max_skips must be a whole number of at least 1, but got 0'),
    (dict(type='skip', max_skips=True), 'but got True'),
    (dict(type='rollback', skip_iters=-1), 'skip_iters must be a whole number of at least 0'),
    (dict(type='rollback', skip_iters=1.5), 'but got 1.5'),
    (dict(type='rollback', lr_factor=0), 'lr_factor must be above 0 and at most 1, but got 0'),
    (dict(type='rollback', lr_factor=2.), 'but got 2.0'),
])
def test_what_is_wrong_is_named_with_its_value(given, text):
    with pytest.raises(ValueError, match=text):
        read_reaction('on_nan', given)


def test_only_an_applied_update_ends_a_row_of_skips():
    count = SkipCount()
    assert [count.dropped('nan'), count.dropped('spike')] == [1, 2]
    count.left_out()
    assert count.in_a_row == 2 and count.by_cause == {'nan': 1, 'spike': 1, 'rollback': 1} and count.total == 3
    count.applied()
    assert count.dropped('nan') == 1
