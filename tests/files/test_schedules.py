"""A schedule that PyTorch began is ended by MMEngine's scheduler of that name with the same learning rates."""

from __future__ import annotations

import warnings

import mmengine.optim.scheduler as ours
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as theirs

from mmckpt.files.schedules import back_to_torch, mapped_schedulers

# Class, arguments in PyTorch, arguments in MMEngine where they have other names.
SCHEDULES = [
    ('StepLR', dict(step_size=3, gamma=0.5), None),
    ('MultiStepLR', dict(milestones=[2, 6, 6, 9], gamma=0.5), None),
    ('ExponentialLR', dict(gamma=0.9), None),
    ('CosineAnnealingLR', dict(T_max=12, eta_min=0.01), None),
    ('LinearLR', dict(start_factor=0.1, end_factor=0.8, total_iters=9), dict(start_factor=0.1, end_factor=0.8, end=10)),
    ('ConstantLR', dict(factor=0.5, total_iters=7), dict(factor=0.5, end=8)),
    ('PolynomialLR', dict(total_iters=11, power=2), dict(power=2, end=12)),
]


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
    optimizer, resumed = made(ours, dict(PolynomialLR='PolyLR').get(name, name), our_arguments or torch_arguments)
    optimizer.load_state_dict(begun.state_dict())
    resumed.load_state_dict(state)
    assert rates(optimizer, resumed, 7) == pytest.approx(whole[5:], rel=1e-9)
    # And back again.
    again, last = made(theirs, name, torch_arguments)
    again.load_state_dict(begun.state_dict())
    last.load_state_dict(back_to_torch(state))
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


@pytest.mark.parametrize('name, arguments, reason', [
    ('LambdaLR', dict(lr_lambda=lambda step: 0.9 ** step), 'factors are functions'),
    ('OneCycleLR', dict(max_lr=1.0, total_steps=20), 'one-cycle'),
    ('CosineAnnealingWarmRestarts', dict(T_0=3), 'warm restarts')])
def test_what_counts_in_another_way_is_not_mapped_and_keeps_its_place(name, arguments, reason):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        strange, plain = (made(theirs, *a)[1] for a in ((name, arguments), ('StepLR', dict(step_size=2))))
    states, kept, lost = mapped_schedulers([strange.state_dict(), plain.state_dict()])
    assert reason in lost['scheduler 0'] and states[0] == {} and states[1]['step_size'] == 2
    assert list(kept) == ['scheduler 1'] and mapped_schedulers([strange.state_dict()])[0] == []
