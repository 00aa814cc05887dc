"""What a validation changed is found and put back, also where histories are bounded."""

import numpy as np
import pytest
from test_checkpoint_hook import load, metrics, names, ours, train
from toy_runner import make_runner

from mmckpt.hooks.validation_delta import _added


@pytest.mark.parametrize('before, after, expected', [
    (None, [1.], 1), ([1.], [1., 2.], 1), ([1., 2.], [2., 3.], 1), ([1., 2., 3.], [3., 4., 5.], 2),
    ([1., 2.], [3.], 1), ([1., 2.], [2., 3.], 1), ([1.], [1.], 1), ([], [4., 5.], 2),
    ([np.nan, 1.], [np.nan, 1., np.nan], 1), ([1., 1.], [1., 1.], 1), ([1., 2., 3.], [9.], 1)])
def test_appended_values_are_told_from_those_that_were_there(before, after, expected):
    assert _added(None if before is None else np.array(before), np.array(after)) == expected


def test_an_untouched_history_has_nothing_added():
    history = np.array([1., 2.])
    assert _added(history, history) == 0


def test_resumed_validation_loss_history_is_that_of_the_uninterrupted_run(tmp_path):
    hooks = [dict(type='mmckpt.RNGStateHook'), dict(type='mmckpt.ValLossHook')]
    values = metrics('AP', .1, .2, .3, .4)
    train(tmp_path / 'whole', values, ours(), hooks=hooks)
    train(tmp_path / 'part', values[:2], ours(), hooks=hooks)
    runner = make_runner(tmp_path / 'part', values[2:], hooks, checkpoint=ours(), epochs=4, resume=True)
    runner.train()
    assert names(tmp_path / 'part') == names(tmp_path / 'whole')
    for name in ('epoch_3.pth', 'epoch_4.pth'):
        whole, part = (load(tmp_path / run / name)['message_hub']['log_scalars'] for run in ('whole', 'part'))
        for key in ('val/loss', 'val/AP'):
            assert whole[key].data[0].tolist() == part[key].data[0].tolist(), (name, key)
            assert whole[key].max_length == part[key].max_length
