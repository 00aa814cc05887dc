"""TrainingMonitor: a resume gives the same next answers, the cost is constant, events are counted."""

import json
import math
import random
import time
from copy import deepcopy

import pytest

from mmckpt.monitor import (
    MetricStatistics,
    NonFiniteDetector,
    PerformanceDropDetector,
    RunningStatistics,
    SpikeDetector,
    TrainingContext,
    TrainingMonitor,
)
from mmckpt.monitor.events import EventLog
from mmckpt.progress import Progress

TERMS = ['loss', *(f'loss_{i}' for i in range(7))]


def build_monitor():
    monitor = TrainingMonitor({'non_finite': NonFiniteDetector(), 'spike': SpikeDetector()}, threshold=0.05,
                              rule_of={'AP': 'greater'}.get)
    monitor.watch('AP', 'greater')
    return monitor


def noisy_run(n, seed=0):
    """Values with spikes and NaN in them."""
    rng = random.Random(seed)
    for step in range(1, n + 1):
        values = {name: rng.lognormvariate(0, 0.3) for name in TERMS}
        if rng.random() < 0.05:
            values['loss_3'] *= rng.choice([10.0, 100.0, math.nan])
        yield values, Progress(step // 10, step)


def run_monitor(monitor, steps):
    said = []
    for values, progress in steps:
        said += monitor.after_iter(values, progress).announcements
        if progress.iter % 10 == 0:
            said += monitor.after_val({'AP': values['loss'] / 3}, progress).announcements
    return said


STATEFUL = {
    SpikeDetector: (SpikeDetector, lambda o, s: [o.update(v, p) for v, p in s]),
    NonFiniteDetector: (NonFiniteDetector, lambda o, s: [o.update(v, p) for v, p in s]),
    PerformanceDropDetector: (lambda: PerformanceDropDetector('loss', threshold=0.05, rule='less'),
                              lambda o, s: [o.update(v, p) for v, p in s]),
    RunningStatistics: (RunningStatistics, lambda o, s: [(o.update(v['loss_3']), repr(o.summary()))[1]
                                                         for v, _ in s]),
    MetricStatistics: (lambda: MetricStatistics('less'),
                       lambda o, s: [(o.update(v['loss_3'], p), repr(o.summary()))[1] for v, p in s]),
    EventLog: (lambda: EventLog(quiet=3),
               lambda o, s: [o.update(SPIKES.update(v, p)) for v, p in s] + [o.events(), o.close()]),
    TrainingMonitor: (build_monitor, lambda o, s: [run_monitor(o, s), repr(o.summary()), o.close()]),
}
SPIKES = SpikeDetector(factor=2.0)


@pytest.mark.parametrize('owner', STATEFUL, ids=lambda owner: owner.__name__)
def test_after_a_resume_the_next_answers_are_the_same_and_so_is_the_state(owner):
    build, feed = STATEFUL[owner]
    steps = list(noisy_run(600))
    whole = build()
    feed(whole, steps[:300])
    saved = json.dumps(whole.state_dict())
    assert saved != json.dumps(build().state_dict())
    resumed = build()
    resumed.load_state_dict(json.loads(saved))
    assert json.dumps(resumed.state_dict()) == saved
    state = json.dumps(SPIKES.state_dict())
    answers = repr(feed(whole, steps[300:]))
    SPIKES.load_state_dict(json.loads(state))
    assert repr(feed(resumed, steps[300:])) == answers
    assert json.dumps(resumed.state_dict()) == json.dumps(whole.state_dict())


@pytest.mark.parametrize('owner', STATEFUL, ids=lambda owner: owner.__name__)
@pytest.mark.parametrize('version', [0, 2, None, '1'])
def test_a_state_of_another_version_is_refused(owner, version):
    build, _ = STATEFUL[owner]
    state = {**build().state_dict(), 'version': version}
    words = f'State of {owner.__name__}: expected version 1, but found {version!r}'
    with pytest.raises(ValueError, match=words):
        build().load_state_dict(state)


def test_a_state_does_not_share_memory_with_its_owner():
    monitor = build_monitor()
    steps = list(noisy_run(400))
    run_monitor(monitor, steps[:200])
    state = monitor.state_dict()
    before = json.dumps(state)
    run_monitor(monitor, steps[200:])
    assert json.dumps(state) == before


def test_detectors_that_a_state_lacks_start_anew():
    bare = TrainingMonitor({})
    run_monitor(bare, noisy_run(100))
    monitor = build_monitor()
    monitor.load_state_dict(bare.state_dict())
    assert monitor.summary()['terms'] == bare.summary()['terms']
    monitor.after_iter({'loss': math.nan}, Progress(0, 101))
    assert monitor.summary()['totals'] == {'non_finite': 1}


def test_a_drop_is_judged_by_the_best_from_before_the_resume():
    first = build_monitor()
    first.after_val({'AP': 0.9}, Progress(1, 10))
    second = TrainingMonitor({}, threshold=0.05)
    second.load_state_dict(first.state_dict())
    assert second.state_dict()['drops'] == first.state_dict()['drops']
    second.watch('AP', 'greater')
    (said,) = second.after_val({'AP': 0.8}, Progress(2, 20)).announcements
    assert 'its best 0.9000 (epoch 1, iter 10)' in said.text


def test_the_settings_of_the_run_are_asked_for_only_when_something_is_found():
    asked = []

    def context():
        asked.append(1)
        return TrainingContext(lr=0.5)

    monitor = build_monitor()
    for step in range(1, 100):
        monitor.after_iter({'loss': 1.0}, Progress(0, step), context)
    assert asked == []
    (said,) = monitor.after_iter({'loss': math.nan}, Progress(0, 100), context).announcements
    assert len(asked) == 1 and any('it is 0.5 now' in line for line in said.advice)


def test_the_state_and_the_cost_do_not_grow_with_the_run():
    steps = list(noisy_run(2000))
    young, old = build_monitor(), build_monitor()
    run_monitor(young, steps)
    sizes, ratios = [], []
    for _ in range(11):
        run_monitor(old, steps)
        sizes.append(len(json.dumps(old.state_dict())))
    assert max(sizes[6:]) < 1.2 * max(sizes[1:6])
    for _ in range(8):
        # Side by side, on copies: a machine that is busy is so for both.
        spent = []
        for monitor in (deepcopy(young), deepcopy(old)):
            start = time.thread_time()
            run_monitor(monitor, steps)
            spent.append(time.thread_time() - start)
        ratios.append(spent[1] / spent[0])
    # A list that grew would cost several times as much in each pair; this only guards against that.
    assert min(ratios) < 2


def test_an_event_of_validations_goes_on_over_the_epochs_between_them():
    monitor = build_monitor()
    said = []
    for epoch in range(1, 8):
        for step in range(10 * epoch - 9, 10 * epoch + 1):
            monitor.after_iter({'loss': 1.0}, Progress(epoch - 1, step))
        monitor.after_epoch(Progress(epoch, 10 * epoch))
        if epoch % 2:
            said += monitor.after_val({'AP': 0.9 if epoch == 1 else 0.5}, Progress(epoch, 10 * epoch)).announcements
    assert len(said) == 1
    assert monitor.summary()['totals'] == {'performance_drop': 1}


def test_pending_iterations_are_in_the_summary_and_leave_the_state_alone():
    whole, asked = build_monitor(), build_monitor()
    for values, progress in noisy_run(130):
        for monitor in (whole, asked):
            monitor.after_iter(values, progress)
        assert asked.summary()['terms']['loss']['count'] == progress.iter
    assert json.dumps(asked.state_dict()) == json.dumps(whole.state_dict())
