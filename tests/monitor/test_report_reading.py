"""A work directory tells of its last run, however many processes made it and whatever is missing."""

import subprocess
import sys
import time

import pytest
from logged_runs import attempt, epochs, event, record, write_attempt, write_index, write_stats

from mmckpt.monitor.run_report import RunReader, to_html

NOW = time.time() - 5000


def read(work_dir):
    return RunReader(work_dir, {'coco/AP': 'greater'}.get).read()


@pytest.fixture
def resumed(tmp_path):
    """Three epochs, of which the second was begun twice: the first process was killed in it."""
    journal = [{'event': 'begin', 'time': NOW, 'iter': 0, 'epoch': 0, 'iters_per_epoch': 10, 'max_iters': 30},
               {'event': 'saved', 'time': NOW + 9, 'iter': 10, 'epoch': 1, 'name': 'epoch_1.pth', 'size': 5,
                'roles': ['periodic'], 'blocked': 0.25}]
    write_attempt(tmp_path, NOW, epochs(1, 2), journal)
    later = [{'event': 'begin', 'time': NOW + 100, 'iter': 10, 'epoch': 1, 'resumed_from': 'epoch_1.pth'},
             {'event': 'finding', 'time': NOW + 110, 'iter': 14, 'epoch': 1, 'severity': 'warning',
              'kind': 'loss_spike', 'text': 'loss_spike at iter 14 At the same time: x.',
              'advice': ['data: look', 'learning rate: lower']}]
    write_attempt(tmp_path, NOW + 100, epochs(2, 3, loss=3.0), later)
    write_index(tmp_path, [attempt(1, NOW, why='killed', stop=None), attempt(2, NOW + 100)],
                [record('epoch_3.pth', 3, NOW + 150, ('periodic', 'best:coco/AP'))])
    (tmp_path / 'epoch_3.pth').write_bytes(b'x')
    write_stats(tmp_path, NOW + 160, events=[event()], metrics={
        'coco/AP': {'best': 0.3, 'best_epoch': 3, 'best_iter': 30, 'rule': 'greater'}})
    return tmp_path


def test_a_later_attempt_overrides_what_it_repeats(resumed):
    run = read(resumed)
    assert run.train['loss'].steps == [4, 8, 14, 18, 24, 28]
    assert run.train['loss'].values[2:] == [3.0] * 4
    assert run.val['coco/AP'].steps == [10, 20, 30]
    assert (run.status, run.epoch, run.iter, run.max_iters, run.iters_per_epoch) == ('finished', 3, 30, None, 10)


def test_attempts_say_how_they_ended_and_where_they_went_on(resumed):
    run = read(resumed)
    assert [(a.number, a.how, a.first_iter) for a in run.attempts] == [(1, 'killed', 4), (2, 'finished', 14)]
    assert run.attempts[0].stop is not None
    marks = [(mark.kind, mark.iter) for mark in run.marks]
    assert marks == [('resume', 10), ('spike', 14)]
    assert 'epoch_1.pth' in run.marks[0].text


def test_two_attempts_of_one_second_share_a_log_and_no_rollback_is_made_of_it(tmp_path):
    journal = [{'event': 'begin', 'time': NOW, 'iter': 0, 'epoch': 0},
               {'event': 'begin', 'time': NOW + 0.9, 'iter': 10, 'epoch': 1, 'resumed_from': 'epoch_1.pth'}]
    write_attempt(tmp_path, NOW, [*epochs(1, 2), *epochs(2, 3)], journal)
    assert [(mark.kind, mark.iter) for mark in read(tmp_path).marks] == [('resume', 10)]


def test_findings_carry_the_advice_of_the_journal(resumed):
    finding, = read(resumed).findings
    assert (finding.kind, finding.first_iter) == ('loss_spike', 14)
    assert finding.advice == ('data: look', 'learning rate: lower')


def test_findings_that_the_statistics_have_forgotten_are_in_the_journal(resumed):
    write_stats(resumed, NOW + 160, events=[event('performance_drop', 20)])
    assert [(f.kind, f.first_iter, len(f.advice)) for f in read(resumed).findings] == [
        ('loss_spike', 14, 2), ('performance_drop', 20, 0)]


def test_memory_is_known_from_the_journals_of_all_attempts(tmp_path):
    def note(step, size):
        return {'event': 'measured', 'time': NOW, 'iter': step, 'memory': size * 1e6, 'available': 1.0}

    write_attempt(tmp_path, NOW, epochs(1, 2), [note(10, 100), note(20, 110)])
    write_attempt(tmp_path, NOW + 50, epochs(2, 3), [note(15, 90), note(30, 95)])
    curve = read(tmp_path).train['mmckpt/memory']
    assert (curve.steps, curve.values) == ([10, 15, 30], pytest.approx([100, 90, 95]))


def test_dropped_files_are_known_from_the_journal(resumed):
    saves = {c.name: c for c in read(resumed).checkpoints}
    assert (saves['epoch_1.pth'].kept, saves['epoch_1.pth'].blocked) == (False, 0.25)
    assert (saves['epoch_3.pth'].kept, saves['epoch_3.pth'].blocked) == (True, None)
    assert read(resumed).judged() == ['coco/AP']


def test_rollbacks_and_skipped_updates_are_told_with_their_cause(resumed):
    rollback = dict(cause='nan', text='loss is nan', from_iter=27, to_iter=20, checkpoint='epoch_2.pth', skip_iters=1)
    write_stats(resumed, NOW + 160, rollbacks=[rollback], skipped_by_cause={'nan': 3})
    run = read(resumed)
    assert run.skipped == {'nan': 3}
    assert [(m.kind, m.iter, m.text) for m in run.marks][-1] == (
        'rollback', 20, 'went back from iteration 27 to 20: loss is nan')


def test_findings_are_marked_in_the_charts_that_they_are_about(resumed):
    write_stats(resumed, NOW + 160, events=[
        event(), event('performance_drop', 20, subjects=['coco/AP']), event('gradient_explosion', 22, subjects=['g']),
        event('plateau', 24, subjects=['coco/AP'], severity='info')])
    marks = [(m.kind, m.iter, m.about, m.part) for m in read(resumed).marks if m.kind != 'resume']
    assert marks == [('spike', 14, ('loss',), 'train'), ('finding', 20, ('coco/AP',), 'val'),
                     ('finding', 22, ('g',), 'train')]


def test_a_fresh_run_in_a_used_directory_hides_the_one_before(resumed):
    write_attempt(resumed, NOW + 1000, epochs(1, 1, loss=8.0))
    write_index(resumed, [attempt(1, NOW), attempt(2, NOW + 100), attempt(3, NOW + 1000.5, run=2)])
    run = read(resumed)
    assert run.train['loss'].values == [8.0, 8.0]
    assert len(run.attempts) == 1 and not run.marks
    # Statistics that were written before it are not its own.
    assert not run.findings and run.best['coco/AP'].value == pytest.approx(0.1)


def test_a_stock_run_is_read_from_its_logs_alone(tmp_path):
    write_attempt(tmp_path, NOW, epochs(1, 2))
    write_attempt(tmp_path, NOW + 50, epochs(2, 3))
    (tmp_path / 'epoch_2.pth').write_bytes(b'1234')
    (tmp_path / 'stock.py').write_text('lr = 0.1\n')
    run = read(tmp_path)
    assert run.status == 'not recorded' and run.iters_per_epoch == 10
    assert [a.how for a in run.attempts] == ['not recorded'] * 2
    assert (run.best['coco/AP'].value, run.best['coco/AP'].iter) == (pytest.approx(0.3), 30)
    assert [(mark.kind, mark.iter) for mark in run.marks] == [('resume', 14)]
    assert [(c.name, c.epoch, c.size) for c in run.checkpoints] == [('epoch_2.pth', 2, 4)]
    assert run.config == 'lr = 0.1\n'


def test_a_stock_run_begun_anew_in_the_same_directory_hides_the_one_before(tmp_path):
    write_attempt(tmp_path, NOW, epochs(1, 3))
    write_attempt(tmp_path, NOW + 50, epochs(1, 1))
    assert read(tmp_path).train['loss'].steps == [4, 8]


def test_nan_is_marked_where_no_monitor_looked(tmp_path):
    write_attempt(tmp_path, NOW, [*epochs(1, 1), *epochs(2, 2, loss=float('nan'))])
    mark, = read(tmp_path).marks
    assert (mark.kind, mark.iter) == ('nan', 14)


@pytest.mark.parametrize('name', ['training_stats.json', 'mmckpt_index.json'])
@pytest.mark.parametrize('content', ['{', '[1]', '\x00', '"' + 'x' * 50])
def test_a_broken_file_is_named_and_the_rest_is_shown(resumed, name, content):
    (resumed / name).write_text(content)
    run = read(resumed)
    assert any(note.startswith(name) for note in run.notes)
    assert run.train['loss'].steps[-1] == 28


@pytest.mark.parametrize('name, content', [
    ('mmckpt_index.json', '{"attempts": 5}'), ('mmckpt_index.json', '{"records": [{}]}'),
    ('mmckpt_index.json', '{"attempts": [{"start": "x", "run": null}]}'), ('training_stats.json', '{"events": [{}]}'),
    ('training_stats.json', '{"metrics": 3}'), ('training_stats.json', '{"iter": "many"}'),
    ('training_stats.json', '{"rollbacks": [1]}'), ('journal', '{"event": "saved"}'), ('journal', '{"event": "begin"}'),
    ('journal', '{"event": "measured", "memory": 1}'), ('journal', '{"event": "finding", "iter": []}'),
])
def test_facts_that_make_no_sense_cost_no_curve(resumed, name, content):
    path = max(resumed.glob('*/mmckpt_events.jsonl')) if name == 'journal' else resumed / name
    path.write_text(content)
    run = read(resumed)
    assert run.notes and 'not understood' in run.notes[-1]
    assert run.train['loss'].steps[-1] == 28 and to_html([run])


def test_directories_that_only_look_like_attempts_are_none(resumed):
    (resumed / '99999999_999999').mkdir()
    (resumed / '20260101_000000_copy').mkdir()
    assert read(resumed).train['loss'].steps[-1] == 28


def test_metrics_of_which_nothing_is_left_after_a_resume_are_none(tmp_path):
    write_attempt(tmp_path, NOW, [*epochs(1, 1), *epochs(2, 2)])
    write_attempt(tmp_path, NOW + 50, [*epochs(1, 1)][1:2])
    run = read(tmp_path)
    assert run.train['loss'].steps == [4, 8] and not run.val


def test_an_empty_directory_has_a_run_without_anything(tmp_path):
    run = read(tmp_path)
    assert (run.status, run.train, run.attempts) == ('unknown', {}, [])


def test_a_process_that_lives_is_running_and_one_that_is_gone_was_killed(tmp_path):
    process = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    start = time.time()
    write_attempt(tmp_path, start, epochs(1, 1))
    write_index(tmp_path, [attempt(1, start, why=None, pid=process.pid)])
    write_stats(tmp_path, start + 1, reason='running')
    assert read(tmp_path).status == 'running'
    process.communicate()
    assert read(tmp_path).status == 'killed'
