"""Why a checkpoint's model is another one, in the words of its config."""

from __future__ import annotations

import pytest

from mmckpt.state.model_settings import setting_differences


def differences(saved, now):
    return setting_differences(dict(cfg=saved), now)


def test_each_setting_is_named_with_both_values_and_what_to_pass():
    assert differences("model = dict(type='VAE', num_items=6807, p=0.5)\nlr = 1",
                       "model = dict(type='VAE', num_items=7000, p=0.5)\nlr = 2") == [
        'num_items: 6807 in the file, 7000 in this config; pass --cfg-options model.num_items=6807']


def test_settings_of_parts_have_their_path():
    [line] = differences('model = dict(head=dict(classes=17))', 'model = dict(head=dict(classes=23))')
    assert line == 'head.classes: 17 in the file, 23 in this config; pass --cfg-options model.head.classes=17'


@pytest.mark.parametrize('saved, now, advice', [
    ('model = dict(widths=[8, 16])', 'model = dict(widths=[8, 32])', 'set it as in the file'),
    ('model = dict()', 'model = dict(depth=3)', 'take model.depth out of the config'),
    ('model = dict(depth=3)', 'model = dict()', 'pass --cfg-options model.depth=3'),
])
def test_what_cannot_be_passed_on_the_command_line_is_said_otherwise(saved, now, advice):
    [line] = differences(saved, now)
    assert line.endswith(f'; {advice}')


@pytest.mark.parametrize('meta', [{}, dict(cfg=''), dict(cfg='not python ('), dict(cfg='model = build()')])
def test_a_file_without_a_readable_config_gives_no_line(meta):
    assert setting_differences(meta, 'model = dict(num_items=1)') == []
