"""A schedule that PyTorch began is ended by MMEngine's scheduler of that name with the same learning rates."""

from __future__ import annotations

import warnings

import mmengine.optim.scheduler as ours
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as theirs

from mmckpt.files.schedules import mapped_schedulers
from mmckpt.files.torch_schedules import back_to_torch, schedules_to_torch

# Class, arguments in PyTorch, arguments in MMEngine where they have other names.
SCHEDULES = [
    ('StepLR', dict(step_size=3, gamma=0.5), None),
    ('MultiStepLR', dict(milestones=[2, 6, 6, 9], gamma=0.5), None),
    ('ExponentialLR', dict(gamma=0.9), None),
    ('CosineAnnealingLR', dict(T_max=12, eta_min=0.01), None),
    ('LinearLR', dict(start_factor=0.1, end_factor=0.8, total_iters=9), dict(start_factor=0.1, end_factor=0.8, end=10)),
    ('ConstantLR', dict(factor=0.5, total_iters=7), dict(factor=0.5, end=8)),
    ('PolynomialLR', dict(total_iters=11, power=2), dict(power=2, end=12)),
    ('CosineAnnealingWarmRestarts', dict(T_0=3, eta_min=0.01), dict(periods=[3] * 5, restart_weights=[1] * 5,
                                                                    eta_min=0.01)),
    ('CosineAnnealingWarmRestarts', dict(T_0=2, T_mult=2), dict(periods=[2, 4, 8], restart_weights=[1] * 3,
                                                                eta_min=0)),
    ('OneCycleLR', dict(max_lr=1.0, total_steps=20, cycle_momentum=False), dict(eta_max=1.0, total_steps=20)),
]
NAMES = dict(PolynomialLR='PolyLR', CosineAnnealingWarmRestarts='CosineRestartLR')


def made(module, name, arguments):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    return optimizer, getattr(module, name)(optimizer, **arguments)


def rates(optimizer, scheduler, steps, value=None):
    """The learning rate after each of some steps."""
    found = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step() if value is None else scheduler.step(value)
        found.append(optimizer.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize('name, torch_arguments, our_arguments', SCHEDULES)
def test_the_rates_go_on_as_they_would_have(name, torch_arguments, our_arguments):
    whole = rates(*made(theirs, name, torch_arguments), 12)
    begun, scheduler = made(theirs, name, torch_arguments)
    assert rates(begun, scheduler, 5) == whole[:5]
    [state], kept, lost = mapped_schedulers([scheduler.state_dict()])
    assert not lost and '5 steps made' in kept['scheduler']
    optimizer, resumed = made(ours, NAMES.get(name, name), our_arguments or torch_arguments)
    optimizer.load_state_dict(begun.state_dict())
    resumed.load_state_dict(state)
    back = back_to_torch(resumed.state_dict())
    assert rates(optimizer, resumed, 7) == pytest.approx(whole[5:], rel=1e-9)
    # And back again.
    again, last = made(theirs, name, torch_arguments)
    again.load_state_dict(begun.state_dict())
    last.load_state_dict(back)
    assert rates(again, last, 7) == pytest.approx(whole[5:], rel=1e-9)


def test_a_plateau_is_waited_for_as_long_as_it_would_have_been():
    arguments = dict(factor=0.5, patience=3)
    whole = rates(*made(theirs, 'ReduceLROnPlateau', arguments), 12, value=1.0)
    begun, scheduler = made(theirs, 'ReduceLROnPlateau', arguments)
    rates(begun, scheduler, 6, value=1.0)
    [state], _, lost = mapped_schedulers([scheduler.state_dict()])
    optimizer, resumed = made(ours, 'ReduceOnPlateauLR', dict(monitor='loss', **arguments))
    optimizer.load_state_dict(begun.state_dict())
    resumed.load_state_dict(state)
    assert not lost and rates(optimizer, resumed, 6, value=dict(loss=1.0)) == whole[6:]


def chain(optimizer, kind, parts, milestones=()):
    """One of PyTorch's chains."""
    parts = [getattr(theirs, name)(optimizer, **arguments) for name, arguments in parts]
    return theirs.SequentialLR(optimizer, parts, list(milestones)) if kind == 'sequence' else theirs.ChainedScheduler(
        parts)


LINEAR = ('LinearLR', dict(start_factor=0.1, total_iters=4))
RESTARTS = ('CosineAnnealingWarmRestarts', dict(T_0=4))
LAMBDA = ('LambdaLR', dict(lr_lambda=lambda step: 0.1 * (step + 1)))
# Chain, steps before the conversion, whether the rates that follow are those of PyTorch to the bit.
CHAINS = [
    ('sequence', [LINEAR, ('CosineAnnealingLR', dict(T_max=8))], [4], 2, False),
    ('sequence', [LINEAR, ('CosineAnnealingLR', dict(T_max=8))], [4], 4, True),
    ('sequence', [LINEAR, ('CosineAnnealingLR', dict(T_max=8, eta_min=0.01))], [4], 7, True),
    ('sequence', [LINEAR, ('StepLR', dict(step_size=3, gamma=0.5))], [6], 5, False),
    ('sequence', [('ConstantLR', dict(factor=0.5, total_iters=3)), ('ExponentialLR', dict(gamma=0.9))], [3], 1, True),
    ('sequence', [LINEAR, ('StepLR', dict(step_size=4, gamma=0.5)), ('PolynomialLR', dict(total_iters=5))], [4, 8], 3,
     False),
    ('sequence', [LAMBDA, ('MultiStepLR', dict(milestones=[2, 4], gamma=0.5))], [3], 5, True),
    ('sequence', [('StepLR', dict(step_size=1)), LINEAR], [3], 4, True),
    ('chain', [('ConstantLR', dict(factor=0.5, total_iters=6)), ('ExponentialLR', dict(gamma=0.9))], [], 5, True),
    ('chain', [LINEAR, ('StepLR', dict(step_size=3, gamma=0.5))], [], 2, True),
]


def built(kept):
    """The schedulers that a conversion says to write into a config, on an optimizer of their own."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    found = []
    for text in kept.values():
        arguments = eval(text.partition('in a config: ')[2] or "dict(type='ConstantLR', factor=0.5, end=2)")
        found.append(getattr(ours, arguments.pop('type'))(optimizer, **arguments))
    return optimizer, found


def all_rates(optimizer, schedulers, steps):
    """The learning rate after each of some steps of several schedulers."""
    found = []
    for _ in range(steps):
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        found.append(optimizer.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize('kind, parts, milestones, before, exact', CHAINS)
def test_a_chain_goes_on_as_the_several_schedulers_that_the_conversion_names(kind, parts, milestones, before, exact):
    optimizers = [torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4) for _ in range(2)]
    whole, begun = (chain(optimizer, kind, parts, milestones) for optimizer in optimizers)
    expected = all_rates(optimizers[0], [whole], 12)[before:]
    all_rates(optimizers[1], [begun], before)
    states, kept, lost = mapped_schedulers([begun.state_dict()])
    assert not lost and len(states) == len(parts)
    optimizer, schedulers = built(kept)
    optimizer.load_state_dict(optimizers[1].state_dict())
    for scheduler, state in zip(schedulers, states):
        scheduler.load_state_dict(state)
    saved = [scheduler.state_dict() for scheduler in schedulers]
    found = all_rates(optimizer, schedulers, 12 - before)
    assert found == (expected if exact else pytest.approx(expected, rel=1e-12))
    if any(name == 'LambdaLR' for name, _ in parts):
        return
    # And back again.
    again = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    last = chain(again, kind, parts, milestones)
    again.load_state_dict(optimizers[1].state_dict())
    [state] = schedules_to_torch(saved)
    last.load_state_dict(state)
    assert all_rates(again, [last], 12 - before) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('arguments', [{}, dict(anneal_strategy='linear'), dict(three_phase=True, pct_start=0.2)])
def test_a_cycle_goes_on_to_the_bit_as_the_conversion_writes_it(arguments):
    arguments = dict(max_lr=1.0, total_steps=15, cycle_momentum=False, **arguments)
    whole = rates(*made(theirs, 'OneCycleLR', arguments), 14)
    begun, scheduler = made(theirs, 'OneCycleLR', arguments)
    rates(begun, scheduler, 4)
    [state], kept, lost = mapped_schedulers([scheduler.state_dict()])
    optimizer, [resumed] = built(kept)
    optimizer.load_state_dict(begun.state_dict())
    resumed.load_state_dict(state)
    assert not lost and rates(optimizer, resumed, 10) == whole[4:]


def test_the_momentum_of_a_cycle_is_named_as_lost():
    _, scheduler = made(theirs, 'OneCycleLR', dict(max_lr=1.0, total_steps=20))
    states, kept, lost = mapped_schedulers([scheduler.state_dict()])
    assert states and list(lost) == ['momentum of scheduler'] and 'learning rates are the same' in str(lost)


def swalr(optimizer):
    return torch.optim.swa_utils.SWALR(optimizer, 0.1)


def stepped_by_parts(optimizer):
    scheduler = theirs.CosineAnnealingWarmRestarts(optimizer, 3)
    scheduler.step(1.5)
    return scheduler


def home_made(optimizer):
    scheduler = theirs.StepLR(optimizer, 2)
    scheduler.warmup_epochs = 3
    return scheduler


@pytest.mark.parametrize('make, reason', [
    (lambda o: theirs.LambdaLR(o, LAMBDA[1]['lr_lambda']), 'factors are functions'),
    (lambda o: theirs.MultiplicativeLR(o, LAMBDA[1]['lr_lambda']), 'factors are functions'),
    (lambda o: theirs.CyclicLR(o, 0.1, 1.0, cycle_momentum=False), 'no cyclic schedule'),
    (swalr, 'stochastic weight averaging'), (stepped_by_parts, 'by parts of an epoch'),
    (home_made, 'keeps gamma, step_size, warmup_epochs is unknown')])
def test_what_has_no_counterpart_is_named_and_keeps_its_place(make, reason):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        strange = make(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4))
        plain = made(theirs, 'StepLR', dict(step_size=2))[1]
    states, kept, lost = mapped_schedulers([strange.state_dict(), plain.state_dict()])
    assert reason in lost['scheduler 0'] and states[0] == {} and states[1]['step_size'] == 2
    assert list(kept) == ['scheduler 1'] and mapped_schedulers([strange.state_dict()])[0] == []


@pytest.mark.parametrize('parts, milestones, before, lost', [
    # PyTorch starts the second at the full rate, wherever the first one is.
    ([('LinearLR', dict(start_factor=0.1, total_iters=9)), ('StepLR', dict(step_size=3))], [4], 2, [1]),
    ([('CosineAnnealingLR', dict(T_max=4)), ('CosineAnnealingLR', dict(T_max=8))], [4], 2, [1]),
    ([LAMBDA, ('StepLR', dict(step_size=3))], [4], 2, [0, 1]), ([LINEAR, LAMBDA], [4], 2, [1]),
    ([LAMBDA, RESTARTS], [4], 2, [0])])
def test_a_jump_that_mmengine_would_not_make_is_named(parts, milestones, before, lost):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    scheduler = chain(optimizer, 'sequence', parts, milestones)
    all_rates(optimizer, [scheduler], before)
    states, kept, reasons = mapped_schedulers([scheduler.state_dict()])
    assert [int(name[-1]) for name in reasons] == lost and len(kept) == 2 - len(lost)
    assert all(not states[i] for i in lost) if kept else not states


def test_restarts_beside_others_are_not_mapped():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    scheduler = chain(optimizer, 'chain', [RESTARTS, ('ExponentialLR', dict(gamma=0.9))])
    assert 'the rate that it finds' in mapped_schedulers([scheduler.state_dict()])[2]['scheduler 0']


def test_a_schedule_that_counts_iterations_is_written_so():
    optimizer, scheduler = made(theirs, 'StepLR', dict(step_size=3))
    rates(optimizer, scheduler, 12)
    texts = [mapped_schedulers([scheduler.state_dict()], count)[1]['scheduler'] for count in (12, 24)]
    assert texts[0].endswith("dict(type='StepLR', step_size=3, gamma=0.1, by_epoch=False)")
    assert texts[1].endswith("dict(type='StepLR', step_size=3, gamma=0.1)")


@pytest.mark.parametrize('state', [
    {'_schedulers': [1, None], '_milestones': [3], 'last_epoch': 2}, {'_schedulers': [{}] * 3, '_milestones': ['x']},
    {'T_0': 0, 'T_i': 0, 'T_mult': 10 ** 40, 'eta_min': 0, 'T_cur': 0, 'last_epoch': 5},
    {'step_size': [], 'gamma': {}, 'last_epoch': 1}, {'milestones': {'a': 1}, 'gamma': 0.1, 'last_epoch': 1},
    {'total_steps': 1, '_schedule_phases': [3], 'last_epoch': 0}, {'last_epoch': 10 ** 50, 'gamma': 0.1}, 7])
def test_a_broken_state_is_named_and_raises_nothing(state):
    assert mapped_schedulers([state])[2]


@pytest.mark.parametrize('state, reason', [
    (dict(begin=5, last_step=1, _global_step=6, gamma=0.1), 'begins at step 5'),
    (dict(begin=0, end=4, last_step=3, _global_step=6, gamma=0.1), 'has ended at step 4'),
    (dict(eta_min=0, eta_min_ratio=None, last_step=1), 'periods are not in the file'),
    (dict(periods=[2, 3], restart_weights=[1, 1], last_step=1, eta_min=0), 'periods'),
    (dict(periods=[2, 2], restart_weights=[1, 0.5], last_step=1, eta_min=0), 'weights')])
def test_what_pytorch_would_count_in_another_way_does_not_go_back(state, reason):
    with pytest.raises(ValueError, match=reason):
        back_to_torch(state)


@pytest.mark.parametrize('begins, first, reason', [
    ([0, 5, 5], {}, 'begin at the steps'), ([2, 5], {}, 'begin at the steps'),
    ([0, 5], dict(step_size=2), 'the full rate at step 5'),
    ([0, 5], dict(start_factor=0.1, end_factor=1.0, total_iters=8, end=9), 'the full rate at step 5')])
def test_schedules_that_pytorch_would_not_chain_alike_do_not_go_back(begins, first, reason):
    states = [dict(first, begin=begin, last_step=1, _global_step=1, base_values=[0.1], _last_value=[0.1])
              for begin in begins]
    with pytest.raises(ValueError, match=reason):
        schedules_to_torch(states)


@pytest.mark.parametrize('changed', [
    dict(periods=[1, 0], restart_weights=[1, 1]), dict(periods=[0]), dict(periods=[]), dict(periods='a'),
    dict(last_step='x'), dict(periods=[1] + [10 ** 11] * 10), dict(restart_weights=[1, 2])])
def test_periods_that_no_schedule_can_have_are_refused_at_once(changed):
    state = dict(periods=[3, 3], restart_weights=[1, 1], last_step=5, _global_step=5, eta_min=0, eta_min_ratio=None)
    assert back_to_torch(state)['T_cur'] == 2
    with pytest.raises(ValueError, match='its periods'):
        back_to_torch({**state, **changed})


def test_a_plateau_of_an_unknown_mode_is_lost_with_the_reason():
    _, _, lost = mapped_schedulers([dict(num_bad_epochs=1, last_epoch=3, mode=['min'])])
    assert lost == {'scheduler': 'its mode is neither min nor max'}
