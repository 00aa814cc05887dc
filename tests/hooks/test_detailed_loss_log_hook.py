"""DetailedLossLogHook prints every term of the right iteration to six decimals."""

import re

import pytest
from mmengine.registry import HOOKS as ROOT_HOOKS
from monitored_runs import At, log_of, make_runner

from mmckpt.hooks.detailed_loss_log_hook import DetailedLossLogHook

ORDER = ['loss', 'heatmap_loss', 'rebuild_loss', 'hits']


def train(work_dir, **kwargs):
    """Train with the hook; return the lines it logged and the outputs of every iteration."""
    steps = []
    watch = At(range(1, 1000), lambda runner, outputs: steps.append(
        {name: value.item() for name, value in outputs.items()}))
    loop_by_epoch = kwargs.pop('loop_by_epoch', True)
    hooks = DetailedLossLogHook(**kwargs), watch
    make_runner(work_dir, *hooks, validate=False, by_epoch=loop_by_epoch).train()
    return re.findall(r'INFO - ((?:Iter|Epoch) \[.*)', log_of(work_dir)), steps


def line(head, values):
    return f'{head} ' + ', '.join(f'{name}: {values[name]:.6f}' for name in ORDER)


@pytest.mark.parametrize('interval, iters, loop_by_epoch', [
    (1, range(1, 31), True), (7, [7, 14, 21, 28], True), (30, [30], True), (31, [], True),
    (7, [7, 14, 21, 28], False),
])
def test_the_line_of_an_iteration_holds_its_own_values_in_order(tmp_path, interval, iters, loop_by_epoch):
    lines, steps = train(tmp_path, interval=interval, loop_by_epoch=loop_by_epoch)
    assert lines == [line(f'Iter [{n}]', steps[n - 1]) for n in iters]


def test_the_line_of_an_epoch_holds_the_means_over_it(tmp_path):
    lines, steps = train(tmp_path, interval=2, by_epoch=True)
    means = {name: sum(step[name] for step in steps[10:20]) / 10 for name in ORDER}
    assert lines == [line('Epoch [2]', means)]


def test_the_format_is_the_one_that_scripts_parse(tmp_path):
    lines, _ = train(tmp_path, interval=10)
    number = r'-?\d+\.\d{6}'
    pattern = rf'Iter \[10\] loss: {number}, heatmap_loss: {number}, rebuild_loss: {number}, hits: {number}'
    assert re.fullmatch(pattern, lines[0])


@pytest.mark.parametrize('interval', [0, -1])
def test_an_interval_below_one_is_refused(interval):
    with pytest.raises(ValueError, match=f'interval must be at least 1, but got {interval}'):
        DetailedLossLogHook(interval=interval)


def test_it_is_found_under_the_package_name():
    hook = ROOT_HOOKS.build(dict(type='mmckpt.DetailedLossLogHook'))
    assert (hook.interval, hook.by_epoch) == (50, False)
