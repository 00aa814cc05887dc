"""Key points to heat maps and back.

Pixels and cells have their centre at whole numbers, so a coordinate ``x`` of a
grid of ``n`` becomes ``(x + 0.5) * m / n - 0.5`` in a grid of ``m``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]


def rescale_points(points: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Move points from one pixel grid to another that covers the same area.

    Args:
        points (np.ndarray): ``(..., 2)``, x and y in pixels of ``source``.
        source (tuple[int, int]): Width and height of the first grid.
        target (tuple[int, int]): Width and height of the second grid.

    Returns:
        np.ndarray: ``(..., 2)`` float32, in pixels of ``target``.

    Example:
        >>> rescale_points(np.array([[0.5, 63.0]]), (64, 64), (32, 32)).tolist()
        [[0.0, 31.25]]
    """
    factor = np.asarray(target, dtype=np.float32) / np.asarray(source, dtype=np.float32)
    return ((np.asarray(points, dtype=np.float32) + 0.5) * factor - 0.5).astype(np.float32)


def encode_heatmaps(cells: np.ndarray, size: Size, sigma: float) -> np.ndarray:
    """Draw an unnormalised Gaussian with peak 1 around every key point.

    Args:
        cells (np.ndarray): ``(K, 2)``, x and y in heat-map cells.
        size (tuple[int, int]): Width and height of the heat maps.
        sigma (float): Standard deviation in cells.

    Returns:
        np.ndarray: ``(K, H, W)`` float32.

    Example:
        >>> float(encode_heatmaps(np.array([[3.0, 1.0]]), (8, 4), 2.0)[0, 1, 3])
        1.0
    """
    width, height = size
    dx = np.arange(width, dtype=np.float32) - cells[:, :1]
    dy = np.arange(height, dtype=np.float32) - cells[:, 1:]
    across = np.exp(-dx**2 / (2 * sigma**2))
    down = np.exp(-dy**2 / (2 * sigma**2))
    return (down[:, :, None] * across[:, None, :]).astype(np.float32)


def decode_heatmaps(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Find the peak of every heat map to a fraction of a cell.

    The highest cell is moved by up to half a cell, to the top of the parabola
    through the logarithms of it and its neighbours: exact for a Gaussian.

    Args:
        heatmaps (Tensor): ``(N, K, H, W)`` float.

    Returns:
        tuple[Tensor, Tensor]: Coordinates ``(N, K, 2)`` in cells (x, y) and
        peak values ``(N, K)``, both float32.

    Example:
        >>> maps = torch.from_numpy(encode_heatmaps(np.array([[9.3, 5.8]]), (16, 16), 2.0))
        >>> [round(v, 3) for v in decode_heatmaps(maps[None])[0].flatten().tolist()]
        [9.3, 5.8]
    """
    maps = heatmaps.detach().float()
    height, width = maps.shape[-2:]
    scores, index = maps.flatten(2).max(dim=2)
    x, y = index % width, torch.div(index, width, rounding_mode='floor')
    logs = maps.clamp(min=1e-3).log()
    rows = logs.gather(2, y[..., None, None].expand(-1, -1, 1, width)).squeeze(2)
    columns = logs.gather(3, x[..., None, None].expand(-1, -1, height, 1)).squeeze(3)
    return torch.stack([_parabola_top(rows, x), _parabola_top(columns, y)], dim=-1), scores


def _parabola_top(lines: Tensor, peak: Tensor) -> Tensor:
    """Refine ``peak`` (N, K) along ``lines`` (N, K, L); a peak on the border stays."""
    inner = peak.clamp(1, lines.shape[-1] - 2)
    left, middle, right = (
        lines.gather(2, (inner + step)[..., None]).squeeze(2) for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / torch.where(curvature < 0, curvature, torch.full_like(curvature, -1.0))
    usable = (inner == peak) & (curvature < 0)
    return peak + torch.where(usable, shift.clamp(-0.5, 0.5), torch.zeros_like(shift))


def soft_argmax(heatmaps: Tensor, sharpness: float = 10.0) -> Tensor:
    """Return the expected position under a softmax of the heat map; differentiable.

    Args:
        heatmaps (Tensor): ``(N, K, H, W)`` float with peaks near 1.
        sharpness (float): Factor before the softmax. Defaults to 10.0.

    Returns:
        Tensor: ``(N, K, 2)``, x and y in cells.

    Example:
        >>> soft_argmax(100 * torch.eye(4).reshape(1, 4, 2, 2)).argmax(-1).tolist()
        [[0, 0, 1, 0]]
    """
    height, width = heatmaps.shape[-2:]
    weights = (heatmaps.flatten(2) * sharpness).softmax(dim=2).unflatten(2, (height, width))
    columns = torch.arange(width, dtype=weights.dtype, device=weights.device)
    rows = torch.arange(height, dtype=weights.dtype, device=weights.device)
    return torch.stack([(weights.sum(2) * columns).sum(-1), (weights.sum(3) * rows).sum(-1)], dim=-1)
