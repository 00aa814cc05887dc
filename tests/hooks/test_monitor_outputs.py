"""What the monitor notices reaches journal, visualizer, people and report, and none of these stops a training."""

import json
import sys

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from monitored_runs import At, log_of, make_runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from webhook_server import serving

from mmckpt.hooks import TrainingMonitorHook
from mmckpt.hooks.monitor_outputs import MonitorOutputs
from mmckpt.monitor.journal import read_journal
from mmckpt.monitor.run_report import RunReader
from mmckpt.progress import Progress


def poison(runner, outputs):
    outputs['heatmap_loss'].fill_(torch.nan)


def crash(runner, outputs):
    raise RuntimeError('planted failure')


def train(work_dir, *hooks, monitor=None, **kwargs):
    checkpoint = dict(type='mmckpt.CheckpointHook', interval=1, max_keep_ckpts=1, save_best='coco/AP')
    runner = make_runner(work_dir, TrainingMonitorHook(**(monitor or {})), LoggerHook(interval=2), *hooks,
                         checkpoint=checkpoint, **kwargs)
    runner.train()
    return runner


def journal_of(work_dir):
    path, = work_dir.glob('*/mmckpt_events.jsonl')
    return read_journal(path)


def test_a_run_leaves_a_journal_and_a_report_with_all_of_it(tmp_path):
    train(tmp_path, At([14], poison))
    events = journal_of(tmp_path)
    assert (events[0]['event'], events[0]['iters_per_epoch'], events[0]['max_iters']) == ('begin', 10, 30)
    assert (events[-1]['event'], events[-1]['reason'], events[-1]['iter']) == ('end', 'finished', 30)
    saved = [(e['name'], e['iter']) for e in events if e['event'] == 'saved' and 'periodic' in e['roles']]
    assert saved == [('epoch_1.pth', 10), ('epoch_2.pth', 20), ('epoch_3.pth', 30)]
    assert all(e['blocked'] > 0 for e in events if e['event'] == 'saved' and 'periodic' in e['roles'])
    assert {'epoch_1.pth', 'epoch_2.pth'} <= {e['name'] for e in events if e['event'] == 'dropped'}
    finding = next(e for e in events if e['event'] == 'finding')
    assert (finding['kind'], finding['iter'], finding['severity']) == ('non_finite', 14, 'error') and finding['advice']
    run = RunReader(tmp_path).read()
    assert (run.status, run.attempts[0].how) == ('finished', 'finished')
    assert [(mark.kind, mark.iter) for mark in run.marks] == [('nan', 14)]
    assert {c.name: c.kept for c in run.checkpoints if 'periodic' in c.roles} == {
        'epoch_1.pth': False, 'epoch_2.pth': False, 'epoch_3.pth': True}
    page = (tmp_path / 'report.html').read_text()
    assert 'heatmap_loss is nan' in page and run.findings[0].advice[0] in page.replace('&#x27;', "'")
    assert 'The report of this training is' in log_of(tmp_path)


def test_a_report_is_made_when_training_crashes(tmp_path):
    with pytest.raises(RuntimeError, match='planted'):
        train(tmp_path, At([14], crash))
    page = (tmp_path / 'report.html').read_text()
    assert 'ended by an exception: RuntimeError: planted failure' in page


def test_no_report_where_none_is_wanted(tmp_path):
    train(tmp_path, monitor=dict(report=False), epochs=1)
    assert not (tmp_path / 'report.html').exists()


def test_a_report_that_cannot_be_made_stops_nothing(tmp_path):
    (tmp_path / 'report.html').mkdir()
    train(tmp_path, epochs=1)
    assert 'training goes on' in log_of(tmp_path)
    assert json.loads((tmp_path / 'training_stats.json').read_text())['reason'] == 'finished'


def test_a_journal_that_cannot_be_written_keeps_nobody_from_being_told(tmp_path, monkeypatch):
    def block(runner, outputs):
        path, = tmp_path.glob('*/mmckpt_events.jsonl')
        path.unlink()
        path.mkdir()

    with serving() as (url, received):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        train(tmp_path, At([5], block), At([14], poison), epochs=2,
              monitor=dict(notify=[dict(type='webhook', url_env='MMCKPT_WEBHOOK', min_severity='info')]))
    texts = [body['text'] for _, _, body in received]
    assert 'heatmap_loss is nan' in texts[0] and 'Training finished' in texts[-1]
    assert log_of(tmp_path).count('IsADirectoryError: [Errno 21]') == 1


def test_memory_is_noted_ever_more_rarely_in_a_long_run(tmp_path):
    runner = train(tmp_path, epochs=1)
    outputs = MonitorOutputs(False, [])
    outputs.begin(runner)
    for step in range(50, 1_000_000, 50):
        outputs.measured(runner, 'memory', {'memory': 5e8}, Progress(0, step))
    assert 1000 < sum(event['event'] == 'measured' for event in journal_of(tmp_path)) < 10_000


def test_findings_reach_tensorboard_as_scalar_and_text(tmp_path):
    train(tmp_path, At([14], poison), epochs=2,
          visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')]))
    path, = tmp_path.glob('*/vis_data/events.*')
    log = EventAccumulator(str(path)).Reload()
    assert [event.step for event in log.Scalars('mmckpt/findings/non_finite')] == [14]
    text = log.Tensors('mmckpt/findings/non_finite/text_summary')[0].tensor_proto.string_val[0].decode()
    assert 'heatmap_loss is nan' in text and 'learning rate' in text


class Unplugged(BaseVisBackend):
    """A backend whose server is gone."""

    experiment = property(lambda self: self)

    def _init_env(self):
        pass

    def add_scalar(self, *args, **kwargs):
        raise ConnectionError('unplugged')

    add_config = add_scalars = add_graph = add_image = lambda self, *args, **kwargs: None


def test_a_backend_that_fails_stops_nothing_and_is_said_once(tmp_path):
    visualizer = Visualizer(name='unplugged', vis_backends=[Unplugged(str(tmp_path))])
    train(tmp_path, At([14, 25], poison), visualizer=visualizer)
    assert log_of(tmp_path).count('ConnectionError: unplugged') == 1
    assert journal_of(tmp_path)[-1]['reason'] == 'finished'


def test_people_hear_of_findings_and_of_the_end_but_of_no_trifles(tmp_path, monkeypatch):
    heard = tmp_path / 'heard'
    program = f'import sys; open({str(heard)!r}, "a").write(sys.stdin.read() + chr(10))'
    with serving() as (url, received), pytest.raises(RuntimeError):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        notify = [dict(type='webhook', url_env='MMCKPT_WEBHOOK'),
                  dict(type='command', command=[sys.executable, '-c', program], min_severity='error')]
        train(tmp_path, At([14], poison), At([25], crash), monitor=dict(notify=notify))
    texts = [body['text'] for _, _, body in received]
    assert texts[0].startswith('[mmckpt] monitored')
    assert 'heatmap_loss is nan' in texts[0] and 'learning rate' in texts[0]
    assert 'ended by an exception: RuntimeError: planted failure' in texts[-1] and 'iteration 24' in texts[-1]
    assert 'heatmap_loss is nan' in heard.read_text()
    assert 'SECRET-TOKEN' not in log_of(tmp_path)


@pytest.mark.parametrize('arguments, message', [
    (dict(report='yes'), 'report must be True or False'), (dict(notify=[{}]), "type='webhook'")])
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingMonitorHook(**arguments)
