"""DetailedLossLogHook prints every term of the right iteration to six decimals."""

import csv
import json
import pickle
import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as ROOT_HOOKS
from monitored_runs import At, log_of, make_runner

from mmckpt.hooks.detailed_loss_log_hook import DetailedLossLogHook
from mmckpt.hooks.raw_losses import RawLosses

TERMS = ['loss', 'heatmap_loss', 'rebuild_loss', 'hits']
ORDER = ['loss', 'heatmap_loss', 'rebuild_loss', 'rebuild_loss[0]', 'rebuild_loss[1]', 'hits']


class Entries(Hook):
    """Adds the entries of the list that the model gives to what each step is known to hold."""

    priority = 'HIGHEST'

    def __init__(self, steps):
        self.steps = steps

    def before_train(self, runner):
        runner.model.register_forward_hook(self.look)

    def look(self, model, inputs, outputs):
        self.entries = {f'rebuild_loss[{n}]': entry.item() for n, entry in enumerate(outputs['rebuild_loss'])}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append({**{name: value.item() for name, value in outputs.items()}, **self.entries})


def train(work_dir, **kwargs):
    """Train with the hook; return the lines it logged and the outputs of every iteration."""
    steps = []
    loop_by_epoch = kwargs.pop('loop_by_epoch', True)
    hooks = DetailedLossLogHook(**kwargs), Entries(steps)
    make_runner(work_dir, *hooks, validate=False, by_epoch=loop_by_epoch).train()
    return re.findall(r'INFO - ((?:Iter|Epoch) \[.*)', log_of(work_dir)), steps


def line(head, values, order=ORDER):
    return f'{head} ' + ', '.join(f'{name}: {values[name]:.6f}' for name in order)


def means(steps):
    return {name: sum(step[name] for step in steps) / len(steps) for name in ORDER}


def numbers(text):
    return {name: float(value) for name, value in re.findall(r'(\S+): (\S+?)(?:,|$)', text)}


@pytest.mark.parametrize('interval, iters, loop_by_epoch', [
    (1, range(1, 31), True), (7, [7, 14, 21, 28], True), (30, [30], True), (31, [], True),
    (7, [7, 14, 21, 28], False),
])
def test_the_line_of_an_iteration_holds_its_own_values_in_order(tmp_path, interval, iters, loop_by_epoch):
    lines, steps = train(tmp_path, interval=interval, loop_by_epoch=loop_by_epoch)
    assert lines == [line(f'Iter [{n}]', steps[n - 1]) for n in iters]


def test_the_line_of_an_epoch_holds_the_means_over_it(tmp_path):
    lines, steps = train(tmp_path, interval=2, by_epoch=True)
    assert len(lines) == 1 and lines[0].startswith('Epoch [2] loss: ')
    assert numbers(lines[0]) == pytest.approx(means(steps[10:20]), abs=2e-6)


def test_the_format_is_the_one_that_scripts_parse(tmp_path):
    lines, _ = train(tmp_path, interval=10, expand=False)
    number = r'-?\d+\.\d{6}'
    pattern = rf'Iter \[10\] loss: {number}, heatmap_loss: {number}, rebuild_loss: {number}, hits: {number}'
    assert re.fullmatch(pattern, lines[0])


def test_lists_are_shown_as_their_sum_alone_where_that_is_wanted(tmp_path):
    lines, steps = train(tmp_path, interval=30, expand=False)
    assert lines == [line('Iter [30]', steps[29], TERMS)]


@pytest.mark.parametrize('window, interval, spans', [
    (4, 10, [(6, 10), (16, 20), (26, 30)]), (20, 15, [(0, 15), (10, 30)])])
def test_a_running_mean_covers_its_window(tmp_path, window, interval, spans):
    lines, steps = train(tmp_path, interval=interval, window=window)
    assert len(lines) == len(spans)
    for text, (begin, end) in zip(lines, spans):
        assert numbers(text) == pytest.approx(means(steps[begin:end]), abs=2e-6)


def test_gradient_norm_and_learning_rate_are_those_of_the_iteration(tmp_path):
    norms = []
    hook = DetailedLossLogHook(interval=10, extras=['grad_norm', 'lr'])
    watch = At([10, 20], lambda runner, outputs: norms.append(
        runner.message_hub.get_scalar('train/grad_norm').current()))
    make_runner(tmp_path, hook, watch, validate=False, epochs=2,
                param_scheduler=dict(type='MultiStepLR', milestones=[10], by_epoch=False)).train()
    lines = re.findall(r'Iter \[\d+\].*', log_of(tmp_path))
    assert [text.split(', ')[-2:] for text in lines] == [
        [f'grad_norm: {norms[0]:.6f}', 'lr: 0.05'], [f'grad_norm: {norms[1]:.6f}', 'lr: 0.005']]


def test_a_gradient_norm_that_nobody_computes_is_explained_once(tmp_path):
    runner = make_runner(tmp_path, DetailedLossLogHook(interval=5, extras=['grad_norm']), validate=False, epochs=1)
    runner.optim_wrapper['clip_grad'] = None
    runner.train()
    assert log_of(tmp_path).count("clip_grad=dict(max_norm=float('inf'))") == 1


def test_a_term_that_comes_and_goes_keeps_its_place(tmp_path):
    hide = At([10, 30], lambda runner, outputs: outputs.pop('heatmap_loss'))
    make_runner(tmp_path, hide, DetailedLossLogHook(interval=10, expand=False), validate=False).train()
    names = [list(numbers(text)) for text in re.findall(r'Iter \[\d+\] (.*)', log_of(tmp_path))]
    assert names == [['loss', 'rebuild_loss', 'hits'], TERMS, ['loss', 'rebuild_loss', 'hits']]


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file)) if path.suffix == '.csv' else [json.loads(text) for text in file]


@pytest.mark.parametrize('file', ['losses.csv', 'logs/losses.jsonl'])
def test_a_file_goes_on_after_a_crash_and_a_resume_without_a_row_twice(tmp_path, file):
    checkpoint = dict(type='mmckpt.CheckpointHook', interval=1)

    def crash(runner, outputs):
        raise RuntimeError('planted')

    with pytest.raises(RuntimeError):
        make_runner(tmp_path, DetailedLossLogHook(interval=4, file=file), At([18], crash), checkpoint=checkpoint,
                    validate=False).train()
    first = rows_of(tmp_path / file)
    assert [int(row['iter']) for row in first] == [4, 8, 12, 16]
    with open(tmp_path / file, 'a') as out:
        out.write('17,0.')
    make_runner(tmp_path, DetailedLossLogHook(interval=4, file=file), checkpoint=checkpoint, validate=False,
                resume=True).train()
    rows = rows_of(tmp_path / file)
    assert [int(row['iter']) for row in rows] == [4, 8, 12, 16, 20, 24, 28]
    assert rows[:2] == first[:2]
    assert list(rows[0]) == ['epoch', 'iter', *ORDER]


def test_a_fresh_run_keeps_the_file_of_the_run_before(tmp_path):
    (tmp_path / 'losses.csv').write_text('iter,loss\n1,2\n')
    train(tmp_path, interval=10, file='losses.csv')
    kept, = tmp_path.glob('losses.before_*.csv')
    assert kept.read_text() == 'iter,loss\n1,2\n' and len(rows_of(tmp_path / 'losses.csv')) == 3


def test_a_file_that_cannot_be_written_stops_no_training(tmp_path):
    (tmp_path / 'losses.csv').mkdir()
    (tmp_path / 'losses.csv' / 'x').touch()
    (tmp_path / 'taken').touch()
    lines, _ = train(tmp_path, interval=10, file='taken/losses.csv')
    assert len(lines) == 3 and log_of(tmp_path).count('cannot be written') == 1


def test_the_model_is_left_as_it_was_and_can_be_pickled_meanwhile(tmp_path):
    pickled = []
    watch = At([5], lambda runner, outputs: pickled.append(pickle.dumps(runner.model)))
    runner = make_runner(tmp_path, DetailedLossLogHook(interval=5), watch, validate=False, epochs=1)
    runner.train()
    assert 'parse_losses' not in vars(runner.model)
    copy = pickle.loads(pickled[0])
    loss, _ = copy.parse_losses({'loss_a': [torch.tensor(1.0), torch.tensor(2.0)]})
    assert loss == 3


@pytest.mark.parametrize('arguments, message', [
    (dict(interval=0), 'interval must be at least 1, but got 0'), (dict(interval=-1), 'but got -1'),
    (dict(window=0), 'window must be'), (dict(window=5, by_epoch=True), 'by_epoch=True takes the whole epoch'),
    (dict(extras='lr'), 'extras must be a list'), (dict(extras=['lr', 'norm']), "but got 'norm'"),
    (dict(file='losses.txt'), 'must end with .csv or .jsonl'),
])
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        DetailedLossLogHook(**arguments)


def test_it_is_found_under_the_package_name():
    hook = ROOT_HOOKS.build(dict(type='mmckpt.DetailedLossLogHook'))
    assert (hook.interval, hook.by_epoch) == (50, False)


def test_a_model_may_sum_up_lists_of_other_things_than_tensors():
    class Own(torch.nn.Module):
        def parse_losses(self, losses):
            return sum(sum(entries) for entries in losses.values())

    raw, model = RawLosses(), Own()
    raw.install(model)
    raw.arm()
    assert model.parse_losses({'loss_a': [1., torch.tensor(2)], 'loss_b': [3.]}) == 6
    assert raw.take() == {'loss_a': {'loss_a[1]': 2.}, 'loss_b': {}}
