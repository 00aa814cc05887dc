"""Whatever has a state gives the same next answers after a checkpoint."""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
import json
import pkgutil
import random

import pytest
import torch
from mmengine.hooks import Hook
from toy_runner import make_runner

import mmckpt
from mmckpt.hooks import CheckpointHook, EarlyStoppingHook, TrainingMonitorHook
from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.capture import hook_states
from mmckpt.hooks.reaction_hook import ReactionHook
from mmckpt.hooks.rollback import RollbackLog
from mmckpt.hooks.step_guard import Window
from mmckpt.monitor import (
    DivergenceDetector,
    GradientDetector,
    IdleParametersDetector,
    LearningRateDetector,
    LossTermsDetector,
    NonFiniteDetector,
    OverfittingDetector,
    PerformanceDropDetector,
    PlateauDetector,
    QuantileSketch,
    SpikeDetector,
    TrainingMonitor,
    ZeroMetricDetector,
)
from mmckpt.monitor.blocks import summarise
from mmckpt.monitor.events import EventLog
from mmckpt.monitor.learning import Learning
from mmckpt.monitor.statistics import MetricStatistics, RunningStatistics
from mmckpt.policy.reaction import SkipCount
from mmckpt.policy.selection import ExponentialMean, RunningMedian, Scorer, Selection
from mmckpt.policy.stopping import Limits, StoppingCondition
from mmckpt.progress import Progress


def noisy(level, length=120):
    """Noise around a level, with jumps, and with a NaN at either end."""
    draw = random.Random(level)
    for step in range(length):
        value = level * draw.uniform(.9, 1.1) * (5. if step % 37 == 20 else 1.)
        yield float('nan') if step in (0, length - 1) else value, Progress(epoch=step // 10, iter=step)


def learn(learning, steps, _):
    answers = []
    for value, at in steps:
        learning.update({'train_loss': value, 'AP': -value, '#weight_change': 1e-7 * at.iter, '#pretrained': 0.})
        answers.append((learning.is_idle, learning.weight_change))
    return answers


def detect(name):
    return lambda detector, steps, _: [detector.update({name: value}, at) for value, at in steps]


def detect_as(make):
    return lambda detector, steps, _: [detector.update(make(value, at), at) for value, at in steps]


def levels(value, at):
    """Blocks of a term that is constant now and then, one that comes and goes, and a gradient norm."""
    norm = 1000. * value if at.iter % 11 == 0 else value
    blocks = {'loss': summarise([value]), 'loss_a': summarise([value, 2. * value] if at.iter < 60 else [0.]),
              'grad_norm': summarise([norm])}
    return {**blocks, 'loss_b': summarise([1.])} if at.iter % 13 else blocks


def sketch(sketch, steps, _):
    return [(sketch.extend([value, -value, 0.]), sketch.quantiles())[1] for value, _ in steps]


def summarise_statistics(statistics, steps, _):
    return [(statistics.update(value, at), statistics.summary())[1] for value, at in steps]


def count(statistics, steps, _):
    return [(statistics.update(value), statistics.summary())[1] for value, _ in steps]


def announce(log, steps, _):
    detector = NonFiniteDetector()
    return [log.update(detector.update({'loss': value}, at)) for value, at in steps]


def watch(monitor, steps, _):
    monitor.watch('AP', 'greater')
    said = [monitor.after_iter({'loss': value}, at) + monitor.after_val({'AP': value}, at) for value, at in steps]
    return said, monitor.summary()


def skip(count, steps, _):
    for value, _ in steps:
        count.dropped('nan') if value != value or value > 1 else count.applied()
    return count.total, count.in_a_row, count.by_cause


def roll_back(log, steps, _):
    for _, at in steps:
        log.add(dict(from_iter=at.iter, skip_iters=2, lr_factor=.5))
    return log.count, log.leaves_out(3, 4), log.events


def react(hook, steps, _):
    answers = []
    for value, hook._done in steps:
        answers.append(hook._judge(Window(hook._done.iter - 1, value, 1., scaled=False)))
    return answers, hook.summary()


class Losses(Hook):
    """Hands the losses of a script to the hooks after it."""

    priority = 'HIGHEST'

    def __init__(self, values):
        self.values = iter(values)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        outputs['loss'] = torch.tensor(next(self.values))


class Said(Hook):
    """Notes what the hooks say of themselves after each validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.answers = []

    def after_val_epoch(self, runner, metrics=None):
        self.answers.append((hook_states(runner), runner.train_loop.stop_training))


def train(hook, steps, work_dir):
    steps, said = list(steps), Said()
    losses = itertools.cycle(value for value, _ in steps)
    values = ({'AP': value} for value, _ in steps if value == value)
    make_runner(work_dir, values, [Losses(losses), hook, said], epochs=8).train()
    stats = work_dir / 'training_stats.json'
    return said.answers, json.loads(stats.read_text())['terms'] if stats.exists() else None


def train_for_bests(hook, steps, work_dir):
    said = Said()
    values = ({'AP': value} for value, _ in steps if value == value)
    runner = make_runner(work_dir, values, [said], checkpoint=hook, epochs=8)
    runner.train()
    return said.answers, runner.message_hub.get_info('best_score')


def smooth(smoothing, steps, _):
    return [smoothing(value) for value, _ in steps if value == value]


def score(scorer, steps, _):
    return [scorer({'AP': value}) for value, _ in steps]


def judge(bests, steps, work_dir):
    hook = CheckpointHook(1, save_best=dict(metric='AP', smooth=.6, keep=3))
    hook._best = hook._best_files.bests = bests
    bests.hook = hook
    return train_for_bests(hook, steps, work_dir)


def count_down(condition, steps, _):
    return [condition.update(condition.score({'AP': value}), at) for value, at in steps]


STATEFUL = {
    StoppingCondition: (lambda: StoppingCondition(Selection('AP', metric='AP', rule='greater', smooth=.5),
                                                  Limits(check_finite=False, patience=40)), count_down),
    ExponentialMean: (lambda: ExponentialMean(.6), smooth),
    RunningMedian: (lambda: RunningMedian(5), smooth),
    Scorer: (lambda: Scorer(Selection('AP', metric='AP', smooth=.6)), score),
    BestMetrics: (lambda: BestMetrics(CheckpointHook(1, save_best=dict(metric='AP', smooth=.6, keep=3))), judge),
    CheckpointHook: (lambda: CheckpointHook(1, save_best=dict(metric='AP', smooth=.6, keep=3)), train_for_bests),
    RunningStatistics: (RunningStatistics, count),
    MetricStatistics: (lambda: MetricStatistics('greater'), summarise_statistics),
    SpikeDetector: (lambda: SpikeDetector(factor=2.), detect('loss')),
    NonFiniteDetector: (NonFiniteDetector, detect('loss')),
    PerformanceDropDetector: (lambda: PerformanceDropDetector('AP'), detect('AP')),
    DivergenceDetector: (lambda: DivergenceDetector(blocks=1), detect_as(
        lambda value, at: {'loss': value * (5. if at.iter > 60 else 1.)})),
    LossTermsDetector: (lambda: LossTermsDetector(blocks=2, expected=['loss_b']), detect_as(levels)),
    GradientDetector: (GradientDetector, detect_as(levels)),
    PlateauDetector: (lambda: PlateauDetector(rounds=3), detect('train_loss')),
    Learning: (lambda: Learning(rounds=3, rule_of=lambda name: 'greater'), learn),
    ZeroMetricDetector: (lambda: ZeroMetricDetector(rule_of=lambda name: 'greater'), detect_as(
        lambda value, at: {'AP': 0. if at.iter < 100 else value})),
    OverfittingDetector: (lambda: OverfittingDetector(validations=1), detect_as(
        lambda value, at: {'train_loss': 2. - at.iter / 100, 'loss': 1.5 if value > 2 else 1 / value})),
    LearningRateDetector: (LearningRateDetector, detect_as(
        lambda value, at: {'lr': value if 3 < at.iter < 110 else 0.})),
    IdleParametersDetector: (IdleParametersDetector, detect_as(
        lambda value, at: {'a': 0., 'b': value > 1., f'c{at.iter // 40}': 0.})),
    QuantileSketch: (QuantileSketch, sketch),
    EventLog: (lambda: EventLog(quiet=5), announce),
    TrainingMonitor: (lambda: TrainingMonitor({'spike': SpikeDetector(factor=2.), 'nan': NonFiniteDetector()},
                                              rule_of=lambda name: 'greater'), watch),
    SkipCount: (SkipCount, skip),
    RollbackLog: (RollbackLog, roll_back),
    ReactionHook: (lambda: TrainingMonitorHook(spike=dict(factor=2.), on_nan='skip', on_spike='skip')._reactions,
                   react),
    EarlyStoppingHook: (lambda: EarlyStoppingHook('AP', min_delta=.01, patience=6), train),
    TrainingMonitorHook: (lambda: TrainingMonitorHook(spike=dict(factor=2.), performance_drop=dict(metric='AP')),
                          train),
}


def stateful_classes():
    found = set()
    for module in pkgutil.walk_packages(mmckpt.__path__, 'mmckpt.'):
        if '.demo' not in module.name:
            for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                own = kind.__module__.startswith('mmckpt.') and not getattr(kind, '_is_protocol', False)
                if own and {'state_dict', 'load_state_dict'} <= set(vars(kind)):
                    found.add(kind)
    return found


def test_no_stateful_class_is_left_out():
    assert stateful_classes() == set(STATEFUL)


@pytest.mark.parametrize('kind', STATEFUL, ids=lambda kind: kind.__name__)
def test_next_answers_after_save_and_load_are_those_of_the_original(kind, tmp_path):
    build, feed = STATEFUL[kind]
    whole, resumed = build(), build()
    fresh = repr(whole.state_dict())
    feed(whole, noisy(1.), tmp_path / 'first')
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state['version'] == 1 and repr(state) != fresh
    resumed.load_state_dict(state)
    answers = repr(feed(whole, noisy(.7), tmp_path / 'whole'))
    assert repr(feed(resumed, noisy(.7), tmp_path / 'resumed')) == answers
    assert repr(feed(build(), noisy(.7), tmp_path / 'anew')) != answers, 'the state changes nothing here'
    assert repr(resumed.state_dict()) == repr(whole.state_dict())
