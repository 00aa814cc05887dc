"""Long curves are thinned without losing what a person must see; logs are read as they grow."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged_runs import LENGTH, epochs, train_line, val_line, write_attempt

from mmckpt.monitor.run_report.curve import Curve, m4, trend
from mmckpt.monitor.run_report.scalars import ScalarLog, join


@given(st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=300), st.integers(1, 20))
def test_a_thinned_curve_keeps_ends_extremes_and_order(values, buckets):
    steps, kept = m4(range(len(values)), values, buckets)
    assert len(steps) <= max(4 * buckets, 5 * buckets)
    assert list(steps) == sorted(set(steps)) and all(kept[i] is values[step] for i, step in enumerate(steps))
    finite = [v for v in values if math.isfinite(v)]
    shown = [v for v in kept if math.isfinite(v)]
    assert (min(finite), max(finite)) == (min(shown), max(shown)) if finite else not shown
    assert all(map(math.isfinite, values)) == all(map(math.isfinite, kept))


def test_a_spike_of_one_iteration_among_a_million_survives_in_bounded_memory():
    curve = Curve(limit=2000)
    spike = random.Random(3).randrange(1_000_000)
    for step in range(0, 1_000_000, 10):
        curve.append(step, 1.0)
        if step == spike // 10 * 10:
            curve.append(step + 1, 9.0)
    assert len(curve.steps) < 2000
    assert max(curve.values) == 9.0 and curve.steps[curve.values.index(9.0)] == spike // 10 * 10 + 1
    assert (curve.steps[0], curve.steps[-1]) == (0, 999_990)


def test_the_course_of_a_dense_curve_is_not_bent_by_its_spikes_and_gaps():
    values = [10 - n / 100 for n in range(1000)]
    values[500], values[501] = 1e9, math.nan
    steps, medians = trend(range(1000), values, 50)
    assert len(steps) == 50 and max(medians) < 10
    assert all(later < earlier for earlier, later in zip(medians, medians[1:]))
    assert trend([1, 2], [math.nan] * 2, 2) == ([], [])


def test_a_log_is_read_on_from_where_it_was_left_and_a_half_line_waits(tmp_path):
    path = write_attempt(tmp_path, 0, epochs(1, 1))
    log = ScalarLog(path)
    log.update()
    assert log.train['loss'].steps == [4, 8]
    line = json.dumps(train_line(14)) + '\n'
    with open(path, 'a') as file:
        file.write(line[:20])
    log.update()
    assert log.train['loss'].steps == [4, 8] and not log.bad_lines
    with open(path, 'a') as file:
        file.write(line[20:])
    log.update()
    assert log.train['loss'].steps == [4, 8, 14]
    assert log.train['loss'].values[-1] == 100 / 14


def test_lines_that_make_no_sense_are_counted_and_left_out(tmp_path):
    path = write_attempt(tmp_path, 0, [])
    path.write_bytes(b'{"iter": "x"}\n[1]\nnonsense\n\xff\n{"loss": 1, "iter": 4, "text": "no number"}\n' + b'[' * 5000
                     + b'\n')
    log = ScalarLog(path)
    log.update()
    assert log.bad_lines == 5
    assert {name: curve.values for name, curve in log.train.items()} == {'loss': [1.0]}


def test_nan_and_infinity_are_values(tmp_path):
    log = ScalarLog(write_attempt(tmp_path, 0, [train_line(4, loss=math.nan), train_line(8, loss=math.inf)]))
    log.update()
    assert math.isnan(log.train['loss'].values[0]) and log.train['loss'].values[1] == math.inf


def test_what_a_rollback_repeats_is_overridden(tmp_path):
    lines = [train_line(n) for n in (4, 8, 12)] + [val_line(12)] + [train_line(n, loss=7.0) for n in (8, 12)]
    log = ScalarLog(write_attempt(tmp_path, 0, lines))
    log.update()
    assert log.rewinds == [(12, 8)]
    train, val = join([log], None)
    assert (train['loss'].steps, train['loss'].values) == ([4, 8, 12], [25.0, 7.0, 7.0])
    assert not val


@pytest.mark.parametrize('lines, length, steps', [
    (list(epochs(1, 3)), LENGTH, [10, 20, 30]),
    # Iteration-based, logged under the iteration.
    ([train_line(4, by_epoch=False), val_line(5), train_line(8, by_epoch=False), val_line(10)], None, [5, 10]),
    # Iteration-based with MMEngine's default, which logs every validation under epoch 0.
    ([train_line(4, by_epoch=False), val_line(0), train_line(8, by_epoch=False), val_line(0)], None, [4, 8]),
    # A validation that a resume made up before its first iteration.
    ([val_line(3), *epochs(4, 4)], LENGTH, [30, 40]),
])
def test_validations_find_their_iteration(tmp_path, lines, length, steps):
    log = ScalarLog(write_attempt(tmp_path, 0, lines))
    log.update()
    assert join([log], length)[1]['coco/AP'].steps == steps


def test_a_prefix_of_the_log_processor_and_our_own_scalars_are_no_names(tmp_path):
    lines = [{'train/loss': 2.0, 'iter': 4, 'step': 4}, {'val/coco/AP': 0.5, 'step': 1},
             {'mmckpt/findings/loss_spike': 3.0, 'step': 4}]
    log = ScalarLog(write_attempt(tmp_path, 0, lines))
    log.update()
    train, val = join([log], None)
    assert (list(train), list(val)) == (['loss'], ['coco/AP'])
