"""Mixed precision on the CPU."""

import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from mmckpt.optim_wrapper import CpuAmpOptimWrapper


def test_is_built_from_a_config():
    net = nn.Linear(2, 2)
    wrapper = build_optim_wrapper(
        net, dict(type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)))
    assert isinstance(wrapper, CpuAmpOptimWrapper)


def test_forward_is_bfloat16_and_parameters_stay_float32():
    net = nn.Linear(4, 1)
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
    before = net.weight.detach().clone()
    with wrapper.optim_context(net):
        out = net(torch.ones(2, 4))
    wrapper.update_params(out.float().mean())
    assert out.dtype is torch.bfloat16
    assert net.weight.dtype is torch.float32 and not torch.equal(net.weight, before)


def test_its_state_loads_into_a_plain_wrapper():
    net = nn.Linear(4, 1)
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.Adam(net.parameters()))
    with wrapper.optim_context(net):
        out = net(torch.ones(2, 4))
    wrapper.update_params(out.float().mean())
    plain = OptimWrapper(optimizer=torch.optim.Adam(net.parameters()))
    plain.load_state_dict(wrapper.state_dict())
    assert str(plain.state_dict()) == str(wrapper.state_dict())
