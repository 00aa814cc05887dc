"""The report is readable, strictly valid JSON, and replaced in one step."""

import json
import math

import pytest

from mmckpt.monitor import NonFiniteDetector, SpikeDetector, TrainingMonitor
from mmckpt.monitor.report import to_json, to_text, write_atomically
from mmckpt.progress import Progress


def report(monitor, **changes):
    head = dict(version=1, work_dir='work_dirs/x', status='finished', reason='finished', epoch=3, iter=30,
                written_at='2026-01-02 03:04:05', monitor_failures=0)
    return {**head, **monitor.summary(), **changes}


@pytest.fixture
def monitor():
    """A short run with a spike, a NaN and a drop."""
    monitor = TrainingMonitor({'non_finite': NonFiniteDetector(), 'spike': SpikeDetector(factor=2.0)},
                              threshold=0.05, rule_of={'AP': 'greater'}.get)
    monitor.watch('AP', 'greater')
    values = [1.0] * 20 + [5.0, 9.0] + [1.0] * 6 + [math.nan] * 2
    for step, value in enumerate(values, 1):
        monitor.after_iter({'loss': value, 'loss_tiny': 1.5e-7}, Progress(step // 10, step))
    for epoch, score in enumerate((0.5, 0.7, 0.6), 1):
        monitor.after_val({'AP': score, 'odd': 1.0}, Progress(epoch, 10 * epoch))
    return monitor


def test_the_text_holds_every_number_of_the_run(monitor):
    lines = to_text(report(monitor)).splitlines()
    rows = {}
    for line in lines:
        rows.setdefault(line.split()[0] if line else '', line.split())
    assert rows['loss'] == ['loss', '1.428571', '1.635075', '1.000000', '9.000000', 'nan', '2']
    assert rows['loss_tiny'] == 'loss_tiny 1.5e-07 0.000000 1.5e-07 1.5e-07 1.5e-07 0'.split()
    assert rows['AP'] == 'AP 0.700000 epoch 2, iter 20 0.600000 0.500000 0.700000'.split()
    assert rows['odd'][1:3] == ['-', '-']
    text = '\n'.join(lines)
    assert 'status     finished' in text and 'done       3 epochs, 30 iterations' in text
    assert 'Loss spikes: 1\n' in text and 'Performance drops: 1\n' in text and 'NaN or infinity: 1\n' in text
    assert 'Loss stayed high' in text[text.index('Not seen'):] and 'Loss spikes' not in text[text.index('Not seen'):]
    assert max(map(len, lines)) <= 120


def test_the_text_shows_quantiles_saves_and_attempts(monitor):
    attempts = [dict(attempt=1, run=1, host='node1', start=1.0, stop=2.0, why='killed'),
                dict(attempt=2, run=1, host='node1', start=3.0, stop=None, why=None)]
    saves = dict(count=3, bytes=2_500_000, blocked_seconds=0.25, bytes_freed=0)
    text = to_text(report(monitor, saves=saves, attempts=attempts))
    assert 'saves      3 files, 2.5 MB, training stood still for 0.2 s' in text
    assert text.count('on node1: killed') == 1 and text.count('on node1: running') == 1
    quantiles = text[text.index('Quantiles'):].splitlines()
    assert quantiles[2].split() == ['term', 'p5', 'p25', 'p50', 'p75', 'p95']
    assert [float(cell) for cell in quantiles[3].split()[1:]] == pytest.approx([1, 1, 1, 1, 1], rel=0.02)


def test_an_empty_run_has_a_report_too():
    text = to_text(report(TrainingMonitor({}), epoch=0, iter=0))
    assert 'none: no iteration was completed' in text and 'none: no validation was completed' in text


def test_failures_of_the_monitor_are_not_hidden(monitor):
    assert 'failed 3 times' in to_text(report(monitor, monitor_failures=3))


def test_json_is_valid_for_strict_parsers_and_keeps_non_finite_values(monitor):
    def refuse(token):
        raise AssertionError(token)

    read = json.loads(to_json(report(monitor, odd=[math.inf, -math.inf, None])), parse_constant=refuse)
    assert read['terms']['loss']['final'] == 'NaN'
    assert read['terms']['loss']['non_finite'] == 2
    assert read['odd'] == ['Infinity', '-Infinity', None]
    assert (read['metrics']['AP']['best'], read['metrics']['AP']['best_epoch']) == (0.7, 2)
    assert read['totals'] == {'loss_spike': 1, 'non_finite': 1, 'performance_drop': 1}
    spike = next(event for event in read['events'] if event['kind'] == 'loss_spike')
    assert (spike['first_iter'], spike['last_iter'], spike['count']) == (21, 22, 2)
    assert spike['subjects'] == ['loss']


def test_more_events_than_are_kept_are_counted(monitor):
    summary = report(monitor, totals={'loss_spike': 250})
    assert '(the newest 1 of 250)' in to_text(summary)


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / 'training_stats.txt'
    write_atomically(path, 'old')
    write_atomically(path, 'new é')
    assert path.read_text(encoding='utf-8') == 'new é'
    assert [p.name for p in tmp_path.iterdir()] == ['training_stats.txt']


def test_a_text_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / 'training_stats.txt'
    write_atomically(path, 'old')
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, 'half \ud800')
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['training_stats.txt']
