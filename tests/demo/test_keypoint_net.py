"""The demo's model and its losses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from mmckpt.demo.digits import DigitsKeypointDataset
from mmckpt.demo.heatmaps import encode_heatmaps, soft_argmax
from mmckpt.demo.keypoint_net import KeypointNet
from mmckpt.demo.transforms import GenerateHeatmap, PackKeypointInputs


@pytest.fixture(scope='module')
def batch():
    with DefaultScope.overwrite_default_scope('mmckpt'):
        data = DigitsKeypointDataset(
            split='val', pipeline=[GenerateHeatmap(), PackKeypointInputs()], indices=6)
    samples = [data[i] for i in range(6)]
    return torch.stack([s['inputs'] for s in samples]).float() / 255, [s['data_samples'] for s in samples]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return KeypointNet(num_keypoints=5)


class FixedMaps(torch.nn.Module):
    """Stands in for the layers, so that losses and decoding can be worked out by hand."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, inputs):
        return self.maps


def with_maps(net, maps):
    net.backbone, net.head = torch.nn.Identity(), FixedMaps(maps)
    return net


def test_losses_are_the_documented_formulas(net, batch):
    inputs, samples = batch
    torch.manual_seed(1)
    maps = torch.rand(6, 5, 32, 32)
    losses = with_maps(net, maps)(inputs, samples, mode='loss')
    targets = torch.stack([s.gt_fields.heatmaps for s in samples])
    cells = torch.from_numpy(np.stack([s.gt_instance_labels.keypoint_cells[0] for s in samples]))
    assert set(losses) == {'heatmap_loss', 'coord_loss'}
    squared = ((maps - targets)**2).mean().item()
    assert losses['heatmap_loss'].item() == pytest.approx(1000 * squared, rel=1e-5)
    distance = (soft_argmax(maps) - cells).abs().sum(-1).mean().item()
    assert losses['coord_loss'].item() == pytest.approx(0.5 * distance, rel=1e-5)


def test_hidden_key_points_do_not_count_in_a_loss(net, batch):
    inputs, samples = batch
    samples = copy.deepcopy(samples)
    torch.manual_seed(1)
    maps = torch.rand(6, 5, 32, 32)
    for sample in samples:
        weights = np.ones((1, 5), dtype=np.float32)
        weights[0, 2] = 0
        sample.gt_instance_labels.keypoint_weights = weights
    before = with_maps(net, maps)(inputs, samples, mode='loss')
    maps[:, 2] += 100
    after = with_maps(net, maps)(inputs, samples, mode='loss')
    assert {k: v.item() for k, v in before.items()} == {k: v.item() for k, v in after.items()}


def test_a_batch_without_any_visible_point_has_a_finite_loss(net, batch):
    inputs, samples = batch
    samples = copy.deepcopy(samples)
    for sample in samples:
        sample.gt_instance_labels.keypoint_weights = np.zeros((1, 5), dtype=np.float32)
    assert all(v.item() == 0 for v in net(inputs, samples, mode='loss').values())


def test_parse_losses_adds_the_terms_up(net, batch):
    total, log_vars = net.parse_losses(net(*batch, mode='loss'))
    assert list(log_vars) == ['loss', 'heatmap_loss', 'coord_loss']
    assert total.item() == pytest.approx((log_vars['heatmap_loss'] + log_vars['coord_loss']).item())


def test_every_parameter_gets_a_gradient(net, batch):
    net.parse_losses(net(*batch, mode='loss'))[0].backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_predictions_come_back_in_pixels_of_the_whole_picture(net, batch):
    inputs, samples = batch
    sample = samples[0].clone()
    sample.set_field(np.array([100, 50, 196, 178], dtype=np.float32), 'input_box', field_type='metainfo')
    maps = torch.from_numpy(encode_heatmaps(np.full((5, 2), [7.5, 15.5]), (32, 32), 2.0))[None]
    found = with_maps(net, maps)(inputs[:1], [sample], mode='predict')[0].pred_instances
    # (7.5 + 0.5) / 32 of a box 96 wide, (15.5 + 0.5) / 32 of one 128 high.
    expected = np.full((1, 5, 2), [100 + 24 - 0.5, 50 + 64 - 0.5])
    np.testing.assert_allclose(found.keypoints, expected, atol=0.05)
    assert found.keypoint_scores.shape == (1, 5)


def test_dropout_makes_training_random_and_only_training(net, batch):
    inputs, _ = batch
    net.train()
    assert not torch.equal(net(inputs), net(inputs))
    net.eval()
    assert torch.equal(net(inputs), net(inputs))


@pytest.mark.parametrize('build, message', [
    (lambda: KeypointNet(num_keypoints=5, channels=(8, 8)), 'six widths'),
    (lambda: KeypointNet(num_keypoints=5)(torch.zeros(1, 3, 64, 64), mode='train'), "found 'train'"),
])
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
