"""Self-distillation: what teaches what, and what predicts."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmckpt.demo import SelfDistilledKeypointNet


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SelfDistilledKeypointNet(num_keypoints=3, channels=(4, 4, 8, 8, 8, 8), heads=2, input_size=(32, 32))


def samples(count):
    made = []
    for _ in range(count):
        sample = BaseDataElement(metainfo=dict(input_box=(0, 0, 32, 32)))
        sample.gt_fields = PixelData(heatmaps=torch.rand(3, 16, 16))
        sample.gt_instance_labels = InstanceData(keypoint_weights=torch.ones(1, 3).numpy())
        made.append(sample)
    return made


def gradients(net, loss):
    net.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_the_second_pass_teaches_the_first_and_is_not_taught_by_it(net):
    inputs, truth = torch.randn(2, 3, 32, 32), samples(2)
    student = net._pass(net._tokens(inputs))
    teacher = net._read(net._pass(student))
    kpt, vis = ((pupil - target.detach()).square().mean() for pupil, target in zip(net._read(student), teacher))
    losses = net(inputs, truth, 'loss')
    assert losses['kpt_dist_loss'].item() == pytest.approx(2e-3 * kpt.item(), rel=1e-5)
    assert losses['vis_dist_loss'].item() == pytest.approx(2e-3 * vis.item(), rel=1e-5)
    expected = gradients(net, 2e-3 * (kpt + vis))
    losses = net(inputs, truth, 'loss')
    found = gradients(net, losses['kpt_dist_loss'] + losses['vis_dist_loss'])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_predictions_take_the_first_pass_only(net):
    net.eval()
    passes = []
    net.transformer[0].register_forward_hook(lambda *_: passes.append(1))
    predicted = net(torch.randn(2, 3, 32, 32), samples(2), 'predict')
    assert len(passes) == 1 and predicted[0].pred_instances.keypoints.shape == (1, 3, 2)
    net(torch.randn(2, 3, 32, 32), samples(2), 'loss')
    assert len(passes) == 3


def test_every_parameter_learns(net):
    losses = net(torch.randn(2, 3, 32, 32), samples(2), 'loss')
    assert set(losses) == {'heatmap_loss', 'vis_dist_loss', 'kpt_dist_loss'}
    found = gradients(net, sum(losses.values()))
    assert found.keys() == dict(net.named_parameters()).keys()
    assert all(value.abs().sum() > 0 for value in found.values())


def test_an_input_that_the_grid_does_not_divide_is_refused():
    with pytest.raises(ValueError, match='multiples of 8, found'):
        SelfDistilledKeypointNet(num_keypoints=3, input_size=(60, 64))
    with pytest.raises(ValueError, match="found 'train'"):
        SelfDistilledKeypointNet(num_keypoints=3)(torch.zeros(1, 3, 64, 64), None, 'train')
