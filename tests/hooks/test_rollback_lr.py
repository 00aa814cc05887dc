"""A learning rate that is scaled in the middle of a schedule stays scaled to its end."""

import pytest
import torch
from mmengine.optim import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    OptimWrapper,
    PolyLR,
)

from mmckpt.hooks.rollback import scale_lr

SCHEDULES = {
    'warm-up and cosine': lambda w: [LinearLR(w, start_factor=.1, by_epoch=False, end=8),
                                     CosineAnnealingLR(w, T_max=12, eta_min=0., by_epoch=False, begin=8, end=20)],
    'steps': lambda w: [MultiStepLR(w, milestones=[3, 12], gamma=.1, by_epoch=False)],
    'poly': lambda w: [PolyLR(w, power=.9, eta_min=0., begin=0, end=20, by_epoch=False)],
    'exponential': lambda w: [ExponentialLR(w, gamma=.9, by_epoch=False)],
    'constant for a while': lambda w: [ConstantLR(w, factor=.3, by_epoch=False, end=10)],
    'one cycle': lambda w: [OneCycleLR(w, eta_max=.2, total_steps=20, by_epoch=False)],
}


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_every_later_learning_rate_is_that_of_the_schedule_times_the_factor(schedule, groups):
    rates = {}
    for factor in (1., .25):
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(groups)]
        optimizer = torch.optim.SGD([dict(params=[w], lr=.1 * (i + 1)) for i, w in enumerate(weights)], lr=.1)
        wrapper = OptimWrapper(optimizer)
        schedulers = SCHEDULES[schedule](wrapper)
        rates[factor] = []
        for step in range(19):
            if step == 6:
                scale_lr(wrapper, schedulers, factor)
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
            rates[factor].append([lr for lrs in wrapper.get_lr().values() for lr in lrs])
    assert rates[.25][:6] == rates[1.][:6]
    for scaled, plain in zip(rates[.25][6:], rates[1.][6:]):
        assert scaled == pytest.approx([.25 * lr for lr in plain])
