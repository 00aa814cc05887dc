"""TrainingMonitorHook in real trainings with planted faults, and in healthy ones, with all detectors on."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from monitored_runs import At, log_of, make_runner

from mmckpt.hooks import CheckpointHook, TrainingMonitorHook, monitor_probes, monitor_values
from mmckpt.hooks.monitor_probes import IterationClock, own_memory


def stats(work_dir):
    return json.loads((Path(work_dir) / 'training_stats.json').read_text())


def train(work_dir, *hooks, prepare=lambda runner: None, **kwargs):
    runner = make_runner(work_dir, TrainingMonitorHook(report=False), *hooks, **kwargs)
    prepare(runner)
    runner.train()
    return runner, stats(work_dir)


def test_a_dead_term_idle_parameters_and_a_learning_rate_of_zero_are_found_and_named(tmp_path):
    def kill(runner, outputs):
        outputs['rebuild_loss'] = torch.zeros(())
        runner.optim_wrapper.param_groups[0]['lr'] = 0.0

    _, found = train(tmp_path, At(range(1, 1000), kill), epochs=20, validate=False,
                     prepare=lambda runner: runner.model.add_module('spare', torch.nn.Linear(2, 2)))
    events = {event['kind']: event for event in found['events'] if event['severity'] != 'info'}
    assert {kind: (event['subjects'], event['first_iter']) for kind, event in events.items()} == {
        'idle_parameters': (['spare.weight'], 20), 'lr_zero': (['lr'], 100),
        'loss_term_dead': (['rebuild_loss'], 200), 'no_progress': (['train_loss'], 110)}
    log = log_of(tmp_path)
    assert 'rebuild_loss has been exactly 0 since the start (200 iterations)' in log
    assert '2 of 8 had none in 20 iterations: spare.weight, spare.bias.' in log


def test_a_healthy_run_raises_nothing_above_info_and_reads_no_tensor_again(tmp_path, monkeypatch):
    def refuse(outputs):
        raise AssertionError('the hub has these values')

    monkeypatch.setattr(monitor_values, 'host_scalars', refuse)
    runner, found = train(tmp_path, epochs=20)
    assert {event['severity'] for event in found['events']} <= {'info'}, found['events']
    assert found['monitor_failures'] == 0 and found['terms']['loss']['count'] == 200
    quantiles = [found['terms']['loss'][f'p{p}'] for p in (5, 25, 50, 75, 95)]
    assert quantiles == sorted(quantiles) and quantiles[-1] <= found['terms']['loss']['max']
    assert not any(p._post_accumulate_grad_hooks for p in runner.model.parameters()), 'the watch has let go'


def test_accumulated_gradients_are_no_idle_parameters_and_each_norm_counts_once(tmp_path):
    _, found = train(tmp_path, epochs=4, validate=False,
                     prepare=lambda runner: runner.optim_wrapper.update(accumulative_counts=4))
    assert found['totals'] == {}
    assert (found['terms']['loss']['count'], found['terms']['grad_norm']['count']) == (40, 10)


def test_statistics_tell_saves_and_attempts(tmp_path):
    runner, found = train(tmp_path, checkpoint=CheckpointHook(interval=1, max_keep_ckpts=2))
    saves, (attempt,) = found['saves'], found['attempts']
    newest = tmp_path / 'epoch_3.pth'
    assert saves['count'] == 3 and saves['bytes'] == pytest.approx(3 * newest.stat().st_size, rel=0.2)
    assert saves['blocked_seconds'] > 0 and saves['bytes_freed'] > 0
    assert (attempt['attempt'], attempt['why']) == (1, 'finished')
    assert 'saves      3 files' in (tmp_path / 'training_stats.txt').read_text()


def test_without_our_checkpoint_hook_saves_are_not_known(tmp_path):
    _, found = train(tmp_path, epochs=1)
    assert (found['saves'], found['attempts']) == (None, [])


def test_the_clock_tells_waiting_from_work_and_leaves_out_what_lies_between_epochs(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(monitor_probes.time, 'perf_counter', lambda: now[0])
    clock = IterationClock()
    for iteration in range(60):
        if iteration % 10 == 0:
            now[0] += 100.0
            clock.restart()
        now[0] += 0.3
        clock.before_iter()
        now[0] += 0.1
        clock.after_iter()
    assert clock.take() == pytest.approx({'time': 0.4, 'data_time': 0.3})
    assert clock.take() is None, 'too few since the last call'


def test_all_detectors_can_be_switched_off(tmp_path):
    names = ('divergence', 'loss_terms', 'gradients', 'plateau', 'zero_metric', 'overfitting', 'learning_rate',
             'idle_parameters', 'slow_data', 'slowing', 'memory', 'gpu_idle')
    hook = TrainingMonitorHook(spike=False, nan=False, performance_drop=False, report=False,
                               **dict.fromkeys(names, False))
    runner = make_runner(tmp_path, hook, At(range(1, 1000), lambda r, o: o.update(rebuild_loss=torch.zeros(()))),
                         epochs=21, validate=False)
    runner.train()
    assert stats(tmp_path)['totals'] == {} and hook.failures == 0


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='the system does not tell mapped files apart')
def test_a_mapped_file_that_is_read_is_no_memory_of_the_process_but_a_list_is(tmp_path):
    size, process = 64 << 20, psutil.Process()
    (tmp_path / 'data.bin').write_bytes(bytes(size))
    mapped = np.memmap(tmp_path / 'data.bin', mode='r')
    before, resident = own_memory(process), process.memory_info().rss
    assert mapped.max() == 0
    assert process.memory_info().rss - resident > 0.9 * size and abs(own_memory(process) - before) < 0.1 * size
    kept = np.ones(size, np.uint8)
    assert own_memory(process) - before > 0.9 * kept.nbytes
