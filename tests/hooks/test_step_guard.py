"""What the guard reads between the backward pass and the step."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmckpt.hooks.step_guard import StepGuard


@pytest.fixture
def guarded():
    """A net of one weight, and the windows that its guard has seen."""
    net = torch.nn.Linear(3, 1, bias=False)
    wrapper, windows = OptimWrapper(torch.optim.SGD(net.parameters(), lr=.1), accumulative_counts=2), []
    guard = StepGuard(net, wrapper, lambda window: windows.append(window) or window.non_finite, lambda: None)
    return net, wrapper, guard, windows


def feed(net, wrapper, guard, factors):
    for done, factor in enumerate(factors):
        guard.before_iter(done)
        wrapper.update_params((net(torch.ones(1, 3)) * factor).sum())


def test_a_window_has_the_mean_loss_of_its_batches_and_the_norm_of_its_gradients(guarded):
    net, wrapper, guard, windows = guarded
    net.weight.data.fill_(1.)
    feed(net, wrapper, guard, [1., 3.])
    assert (windows[0].start, windows[0].loss) == (0, pytest.approx(6.))
    assert windows[0].gradient == pytest.approx(2. * math.sqrt(3))


def test_gradients_whose_norm_overflows_are_finite_all_the_same(guarded):
    net, wrapper, guard, windows = guarded
    net.weight.data.zero_()
    feed(net, wrapper, guard, [1e30, 1e30])
    assert windows[0].gradient == pytest.approx(1e30) and not windows[0].non_finite


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_one_bad_batch_makes_its_window_bad_and_the_next_one_is_clean(guarded, bad):
    net, wrapper, guard, windows = guarded
    before = net.weight.detach().clone()
    feed(net, wrapper, guard, [bad, 1.])
    assert windows[0].non_finite and torch.equal(net.weight, before) and net.weight.grad is None
    feed(net, wrapper, guard, [1., 1.])
    assert not windows[1].non_finite and not torch.equal(net.weight, before)


def test_sparse_gradients_are_read():
    net, windows = torch.nn.Embedding(5, 2, sparse=True), []
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=.1))
    guard = StepGuard(net, wrapper, lambda window: windows.append(window) or window.non_finite, lambda: None)
    for factor in (1., math.nan):
        guard.before_iter(0)
        wrapper.update_params((net(torch.tensor([1, 1])) * factor).sum())
    assert [window.non_finite for window in windows] == [False, True] and net.weight.isfinite().all()


def test_a_second_update_of_the_same_step_begins_where_the_step_did(guarded):
    net, wrapper, guard, windows = guarded
    guard.before_iter(7)
    for _ in range(4):
        wrapper.update_params(net(torch.ones(1, 3)).sum())
    assert [window.start for window in windows] == [7, 7]
