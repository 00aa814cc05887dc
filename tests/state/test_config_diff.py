"""Configs are compared by their text, which is never run."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmckpt.state.config_diff import ABSENT, config_changes, read_config_text

BASE = dict(
    model=dict(type='Net', width=8, mean=[1.5, 2.5], sizes=(1, 2), **{'odd-key': None}),
    hooks=[dict(type='A'), dict(type='B', interval=5), dict(type='C')], lr=1e-3, path=None, names=['a', 'b'])


def changes(edit):
    cfg = Config(BASE)
    edit(cfg)
    before, after = (read_config_text(c.pretty_text) for c in (Config(BASE), cfg))
    return [(c.path, c.saved, c.now, c.owner) for c in config_changes(before, after)]


def test_the_text_gives_the_values_back():
    assert read_config_text(Config(BASE).pretty_text) == BASE


@pytest.mark.parametrize('edit, expected', [
    (lambda c: None, []),
    (lambda c: c.update(lr=.01), [('lr', '0.001', '0.01', '')]),
    (lambda c: c.model.update(width=9), [('model.width', '8', '9', 'Net')]),
    (lambda c: c.update(batch=3), [('batch', ABSENT, '3', '')]),
    (lambda c: c.update(names=['b', 'a']), [('names', "['a', 'b']", "['b', 'a']", '')]),
    (lambda c: c.hooks[1].update(interval=6), [('hooks[1].interval', '5', '6', 'B')]),
    (lambda c: c.hooks.insert(0, dict(type='D', n=1)), [('hooks[0]', ABSENT, "dict(n=1, type='D')", 'D')]),
    (lambda c: c.hooks.pop(0), [('hooks[0]', "dict(type='A')", ABSENT, 'A')]),
    (lambda c: setattr(c, 'model', dict(type='Other')), [
        ('model', "{'mean': [1.5, 2.5], 'odd-key': None, 'sizes': (1, 2), 'type': 'Net', 'width': 8}",
         "dict(type='Other')", 'Net')])])
def test_each_change_is_one_line(edit, expected):
    assert changes(edit) == expected


def test_nothing_in_the_text_is_run(tmp_path):
    witness = tmp_path / 'ran'
    call = f"open({str(witness)!r}, 'w')"
    assert read_config_text(f'import os\n{call}\na = {call}\nb = [exit()]') == {'a': call, 'b': ['exit()']}
    assert not witness.exists()


def test_what_is_not_python_is_named():
    with pytest.raises(ValueError, match='expected the text of a config'):
        read_config_text('model: {type: Net')
