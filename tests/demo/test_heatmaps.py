"""Key points to heat maps and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmckpt.demo.heatmaps import decode_heatmaps, encode_heatmaps, rescale_points, soft_argmax


@pytest.mark.parametrize('source, target', [((64, 64), (32, 32)), ((48, 64), (96, 128)), ((30, 10), (7, 3))])
def test_rescaled_points_come_back(source, target):
    points = np.random.RandomState(0).uniform(0, min(source), (9, 2))
    there = rescale_points(points, source, target)
    np.testing.assert_allclose(rescale_points(there, target, source), points, atol=1e-5)


def test_corners_of_the_picture_stay_corners():
    corners = np.array([[-0.5, -0.5], [63.5, 47.5]])
    np.testing.assert_allclose(
        rescale_points(corners, (64, 48), (32, 24)), [[-0.5, -0.5], [31.5, 23.5]])


def test_a_heatmap_is_the_gaussian_of_the_distance():
    maps = encode_heatmaps(np.array([[4.25, 2.5]]), (8, 6), 1.5)
    for y in range(6):
        for x in range(8):
            squared = (x - 4.25)**2 + (y - 2.5)**2
            assert maps[0, y, x] == pytest.approx(np.exp(-squared / (2 * 1.5**2)), rel=1e-5)


def test_decoding_finds_a_gaussian_to_a_hundredth_of_a_cell():
    cells = np.random.RandomState(1).uniform(2, 29, (40, 2))
    found, scores = decode_heatmaps(torch.from_numpy(encode_heatmaps(cells, (32, 32), 2.0))[None])
    np.testing.assert_allclose(found[0].numpy(), cells, atol=0.01)
    assert (scores > 0.9).all()


@pytest.mark.parametrize('x, y', [(0, 0), (31, 0), (0, 23), (31, 23), (15, 0)])
def test_a_peak_on_the_border_stays_there(x, y):
    maps = torch.zeros(1, 1, 24, 32)
    maps[0, 0, y, x] = 1
    assert decode_heatmaps(maps)[0].flatten().tolist() == [x, y]


@pytest.mark.parametrize('value', [0.0, -1.0, float('inf')])
def test_flat_maps_decode_to_finite_coordinates(value):
    found, _ = decode_heatmaps(torch.full((1, 2, 8, 8), value))
    assert torch.isfinite(found).all()


def test_soft_argmax_of_a_symmetric_peak_is_its_centre_and_has_a_gradient():
    maps = torch.from_numpy(encode_heatmaps(np.array([[15.5, 15.5]]), (32, 32), 2.0))[None]
    maps.requires_grad_()
    points = soft_argmax(maps)
    assert points.flatten().tolist() == pytest.approx([15.5, 15.5], abs=1e-3)
    points.sum().backward()
    assert maps.grad.abs().sum() > 0
