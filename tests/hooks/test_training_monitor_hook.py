"""TrainingMonitorHook in real trainings: what it says, what it writes, and that it never stops one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS as ROOT_HOOKS
from monitored_runs import At, log_of, make_runner

from mmckpt.hooks.monitor_context import training_context
from mmckpt.hooks.training_monitor_hook import TrainingMonitorHook
from mmckpt.monitor import TrainingContext


def stats(work_dir):
    return json.loads((work_dir / 'training_stats.json').read_text(encoding='utf-8'))


def train(work_dir, *hooks, **kwargs):
    make_runner(work_dir, *hooks, **kwargs).train()
    return stats(work_dir)


def raise_lr(runner, outputs):
    for group in runner.optim_wrapper.param_groups:
        group['lr'] *= 1000


def forget(runner, outputs):
    torch.nn.init.zeros_(runner.model.classify.weight)


def break_model(runner, outputs):
    with torch.no_grad():
        runner.model.rebuild.weight[0, 0] = float('nan')


def plant_error(runner, outputs):
    raise RuntimeError('planted failure')


def test_a_healthy_run_ends_with_statistics_that_agree_with_its_own_losses(tmp_path):
    losses = []
    watch = At(range(1, 1000), lambda runner, outputs: losses.append(
        {**{name: value.item() for name, value in outputs.items()},
         'grad_norm': runner.message_hub.get_scalar('train/grad_norm').current()}))
    found = train(tmp_path, TrainingMonitorHook(), watch)
    assert (found['status'], found['reason']) == ('finished', 'finished')
    assert (found['epoch'], found['iter']) == (3, 30)
    assert list(found['terms']) == ['loss', 'heatmap_loss', 'rebuild_loss', 'hits', 'grad_norm']
    for name, row in found['terms'].items():
        values = torch.tensor([step[name] for step in losses], dtype=torch.float64)
        assert row['count'] == 30 and row['final'] == losses[-1][name]
        assert row['mean'] == pytest.approx(values.mean().item())
        assert row['std'] == pytest.approx(values.std(unbiased=False).item())
        assert (row['min'], row['max']) == (values.min().item(), values.max().item())
    assert found['metrics']['coco/AP']['rule'] == 'greater' and found['metrics']['coco/odd']['best'] is None
    assert found['totals'] == {} and 'WARNING - Loss' not in log_of(tmp_path)
    text = (tmp_path / 'training_stats.txt').read_text(encoding='utf-8')
    assert 'status     finished\n' in text and 'coco/AP' in text


@pytest.mark.parametrize('by_epoch', [True, False])
def test_the_best_metric_has_its_epoch_or_iteration(tmp_path, by_epoch):
    found = train(tmp_path, TrainingMonitorHook(), At([20], forget), by_epoch=by_epoch)
    best = found['metrics']['coco/AP']
    assert (best['best_epoch'], best['best_iter']) in ([(1, 10), (3, 30)] if by_epoch else [(0, 10), (0, 30)])
    assert best['best'] == best['max']


def test_a_jump_of_the_loss_is_warned_of_with_the_settings_of_the_run(tmp_path):
    found = train(tmp_path, TrainingMonitorHook(spike=dict(factor=2.0)), At([20], raise_lr))
    (event,) = (event for event in found['events'] if event['kind'] == 'loss_spike')
    assert event['first_iter'] in (21, 22, 23)
    log = log_of(tmp_path)
    assert f"WARNING - {event['message']}" in log and 'its recent average' in log and 'ratio' in log
    assert 'learning rate: it is 50 now' in log and 'max_norm is 35 now' in log
    assert log.count('WARNING - Loss spike') < event['count']


def test_nan_is_reported_with_term_and_iteration_and_does_not_stop_the_training(tmp_path):
    found = train(tmp_path, TrainingMonitorHook(), At([14], break_model))
    (event,) = (event for event in found['events'] if event['kind'] == 'non_finite')
    assert (event['first_iter'], event['last_iter'], event['count']) == (15, 30, 16)
    assert event['subjects'][0] == 'rebuild_loss'
    assert found['terms']['loss']['final'] == 'NaN' and found['terms']['loss']['non_finite'] == 16
    assert 'Non-finite value at iter 15: rebuild_loss is nan (it was 0.' in log_of(tmp_path)
    assert found['status'] == 'finished'


DROPS = {
    'named': dict(performance_drop=dict(metric='coco/AP', threshold=0.05)),
    'last part of the name': dict(performance_drop=dict(metric='AP', threshold=0.05)),
    'one of several': dict(performance_drop=dict(metric=['coco/odd', 'AP'], threshold=0.05, rule='greater')),
    'save_best': dict(),
    'save_best auto': dict(),
}


@pytest.mark.parametrize('case', DROPS)
def test_a_metric_that_falls_under_its_best_is_warned_of(tmp_path, case):
    checkpoint = {'save_best': 'coco/AP', 'save_best auto': 'auto'}.get(case)
    checkpoint = checkpoint and CheckpointHook(interval=100, save_best=checkpoint, rule='greater')
    hooks = TrainingMonitorHook(**DROPS[case]), At([30], forget)
    found = train(tmp_path, *hooks, checkpoint=checkpoint, epochs=4)
    (event,) = found['events']
    assert (event['kind'], event['first_epoch'], event['subjects']) == ('performance_drop', 3, ['coco/AP'])
    assert f"WARNING - {event['message']}" in log_of(tmp_path)


@pytest.mark.parametrize('off', [
    dict(performance_drop=False), dict(performance_drop=dict(metric='AP', threshold=2.0)), dict()])
def test_no_metric_is_watched_where_none_is_asked_for(tmp_path, off):
    assert train(tmp_path, TrainingMonitorHook(**off), At([20], forget))['totals'] == {}


def test_a_metric_that_does_not_exist_is_named_once_with_those_that_do(tmp_path):
    train(tmp_path, TrainingMonitorHook(performance_drop=dict(metric='coco/Ap', rule='greater')))
    log = log_of(tmp_path)
    assert log.count("metric='coco/Ap' is not among the metrics of this validation") == 1
    assert "Did you mean 'coco/AP'" in log


def test_switches_turn_detectors_off(tmp_path):
    hook = TrainingMonitorHook(spike=False, nan=False)
    assert train(tmp_path, hook, At([14], break_model))['totals'] == {}


@pytest.mark.parametrize('arguments, words', [
    (dict(spike=dict(faktor=2.0)), "spike has no argument 'faktor'. Did you mean 'factor'"),
    (dict(spike=dict(factor=0.5)), 'factor must be a number above 1'),
    (dict(spike=2.0), 'spike must be True, False or a dict'),
    (dict(performance_drop=dict(metrics='AP')), "performance_drop has no argument 'metrics'"),
    (dict(performance_drop=dict(threshold=-1.0)), 'threshold must be a number of at least 0'),
    (dict(performance_drop=dict(metric='speed')), "Cannot infer the rule for 'speed'"),
    (dict(performance_drop=dict(metric='AP', rule='max')), 'rule must be'),
    (dict(overfiting=False), "There is no detector 'overfiting'. Did you mean 'overfitting'"),
    (dict(plateau=dict(epochs=3)), "plateau has no argument 'epochs'"),
    (dict(memory=dict(window=1)), 'window must be at least 8'),
    (dict(interval=0), 'interval must be at least 1'),
])
def test_wrong_arguments_are_refused_before_training(arguments, words):
    with pytest.raises(ValueError, match=words.replace('.', r'\.')):
        TrainingMonitorHook(**arguments)


def test_it_is_found_under_the_package_name():
    hook = ROOT_HOOKS.build(dict(type='mmckpt.TrainingMonitorHook', spike=dict(factor=3.0)))
    assert isinstance(hook, TrainingMonitorHook)


def test_an_exception_in_the_training_leaves_statistics_that_name_it(tmp_path):
    with pytest.raises(RuntimeError, match='planted failure'):
        train(tmp_path, TrainingMonitorHook(), At([25], plant_error))
    found = stats(tmp_path)
    assert found['reason'] == 'exception'
    assert found['status'] == 'ended by an exception: RuntimeError: planted failure'
    assert (found['epoch'], found['iter'], found['terms']['loss']['count']) == (2, 24, 24)
    assert 'RuntimeError: planted failure' in (tmp_path / 'training_stats.txt').read_text(encoding='utf-8')


def test_a_hook_that_stops_the_training_is_told_from_a_full_run(tmp_path):
    stop = At([14], lambda runner, outputs: setattr(runner.train_loop, 'stop_training', True))
    found = train(tmp_path, TrainingMonitorHook(), stop)
    assert found['status'] == 'finished early: a hook stopped the training'


def test_the_files_are_there_before_the_end(tmp_path):
    seen = []
    look = At([4, 15, 25], lambda runner, outputs: seen.append(
        (tmp_path / 'training_stats.txt').exists() and (stats(tmp_path)['status'], stats(tmp_path)['iter'])))
    train(tmp_path, TrainingMonitorHook(), look)
    assert seen == [False, ('running', 10), ('running', 20)]


def test_without_validation_the_interval_decides_when_the_files_are_written(tmp_path):
    seen = []
    look = At([13, 27], lambda runner, outputs: seen.append(stats(tmp_path)['iter']))
    train(tmp_path, TrainingMonitorHook(interval=12), look, validate=False)
    assert seen == [12, 24]


def test_a_validation_outside_of_training_writes_nothing(tmp_path):
    make_runner(tmp_path, TrainingMonitorHook()).val()
    assert not list(tmp_path.glob('training_stats*'))


def test_a_failure_of_the_monitor_is_logged_once_and_never_stops_the_training(tmp_path):
    class Broken(TrainingMonitorHook):
        """Cannot write: a folder lies where the text goes."""

        def before_train(self, runner):
            super().before_train(runner)
            (tmp_path / 'training_stats.txt').mkdir()

    hook = Broken(interval=10)
    runner = make_runner(tmp_path, hook, validate=False)
    runner.train()
    assert (runner.iter, hook.failures) == (30, 4)
    log = log_of(tmp_path)
    assert log.count('TrainingMonitorHook failed in after_train_iter; training goes on') == 1
    assert 'Traceback' in log


def test_outputs_that_are_not_numbers_are_left_out(tmp_path):
    def spoil(runner, outputs):
        outputs.update(note='text', pair=torch.ones(2), nothing=None)

    # RuntimeInfoHook would refuse such values itself, so they come after it.
    spoiler = At(range(1, 100), spoil)
    spoiler.priority = 'NORMAL'
    hook = TrainingMonitorHook()
    found = train(tmp_path, hook, spoiler)
    assert hook.failures == 0 and set(found['terms']) == {'loss', 'heatmap_loss', 'rebuild_loss', 'hits', 'grad_norm'}


def test_the_state_at_the_checkpoint_hooks_turn_holds_that_iteration_and_can_be_gone_on_from(tmp_path):
    first, second = TrainingMonitorHook(), TrainingMonitorHook()
    states = []
    keep = At([16], lambda runner, outputs: states.append(json.dumps(first.state_dict())))
    keep.priority = 'VERY_LOW'
    train(tmp_path / 'a', first, keep, At([14], break_model))
    second.load_state_dict(json.loads(states[0]))
    assert json.dumps(second.state_dict()) == states[0]
    found = train(tmp_path / 'b', second)
    assert (found['terms']['loss']['count'], found['terms']['loss']['non_finite']) == (14 + 30, 2)
    assert found['totals']['non_finite'] == 1
    assert found['metrics']['coco/AP']['count'] == 1 + 3


HALF_GOOD = dict(TrainingMonitorHook().state_dict(), terms={'loss': {'version': 1}})


@pytest.mark.parametrize('state', [{'version': 99}, {}, HALF_GOOD], ids=['newer', 'empty', 'half good'])
def test_a_state_that_cannot_be_read_is_left_out_whole_with_a_warning(tmp_path, state):
    hook = TrainingMonitorHook()
    make_runner(tmp_path, hook)
    hook.load_state_dict(state)
    assert hook.state_dict() == TrainingMonitorHook().state_dict()
    assert 'TrainingMonitorHook starts anew, its saved state cannot be read' in log_of(tmp_path)


def test_settings_are_read_from_every_kind_of_optim_wrapper(tmp_path):
    runner = make_runner(tmp_path)
    seen = []
    runner.register_hook(At([1], lambda runner, outputs: seen.append(training_context(runner))))
    runner.train()
    assert seen == [TrainingContext(lr=0.05, max_norm=35.0, batch_size=16, num_workers=0)]
    parts = [OptimWrapper(torch.optim.SGD(layer.parameters(), lr=lr))
             for layer, lr in ((runner.model.classify, 0.1), (runner.model.rebuild, 0.3))]
    runner.optim_wrapper = OptimWrapperDict(a=parts[0], b=parts[1])
    assert training_context(runner) == TrainingContext(lr=0.3, batch_size=16, num_workers=0)


ENDLESS = '''
import sys
from monitored_runs import At, make_runner
from mmckpt.hooks.training_monitor_hook import TrainingMonitorHook
ready = At([25], lambda runner, outputs: print('ready', flush=True))
make_runner(sys.argv[1], TrainingMonitorHook(), ready, epochs=100000).train()
'''


@pytest.mark.parametrize('sent, status', [(signal.SIGTERM, 'ended by SIGTERM'),
                                          (signal.SIGINT, 'ended by Ctrl-C (SIGINT)')])
def test_a_signal_leaves_statistics_that_say_so(tmp_path, sent, status):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]),
                       OMP_NUM_THREADS='1')
    process = subprocess.Popen([sys.executable, '-c', ENDLESS, str(tmp_path)], env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               # A shell lets its background jobs, this test run for instance, ignore Ctrl-C.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        assert any(line.startswith('ready') for line in process.stdout)
        process.send_signal(sent)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (143, -sent, 128 + sent), output
    found = stats(tmp_path)
    assert (found['reason'], found['status']) == ('signal', status)
    assert found['iter'] >= 24 and found['terms']['loss']['count'] >= found['iter']
    assert f'status     {status}\n' in (tmp_path / 'training_stats.txt').read_text(encoding='utf-8')


def test_a_validation_after_the_training_is_none_of_its_results_and_nothing_is_left_on_the_model(tmp_path):
    runner = make_runner(tmp_path, TrainingMonitorHook(idle_parameters=dict(iters=50)))
    runner.train()
    before = (tmp_path / 'training_stats.json').read_text()
    assert not any(p._post_accumulate_grad_hooks for p in runner.model.parameters())
    runner.val()
    assert (tmp_path / 'training_stats.json').read_text() == before
