"""Losses between depth maps of which some pixels have no truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def depth_losses(found: Tensor, truth: Tensor, scales: Sequence[int] = (1, 2, 4, 8)) -> dict[str, Tensor]:
    """Return the absolute, the relative and the gradient loss of predicted depth.

    - ``adepth``: mean absolute error, in the unit of the depth;
    - ``rdepth``: the same of standardised depth, which knows no shift and no scale;
    - ``rgrad``: mean absolute difference of the gradients of standardised
      depth, summed over scales: edges belong where they are.

    Source: standardised depth (without its offset and its mean absolute
    deviation) and gradient matching over scales: Ranftl et al. 2022, "Towards
    Robust Monocular Depth Estimation", equations 5, 6 and 11; the gradient
    term is from Li and Snavely 2018, "MegaDepth", section 4.1. The offset here
    is the mean; theirs is the median.

    Args:
        found (Tensor): ``(N, 1, H, W)`` predicted depth.
        truth (Tensor): ``(N, 1, H, W)``; pixels that are not finite do not count.
        scales (Sequence[int]): Block sizes in pixels at which gradients are compared.

    Returns:
        dict[str, Tensor]: Three scalars; 0 where no pixel counts.

    Example:
        >>> truth = torch.arange(16.).view(1, 1, 4, 4)
        >>> {k: round(v.item(), 3) for k, v in depth_losses(truth * 2 + 3, truth, scales=(1, 2)).items()}
        {'adepth': 10.5, 'rdepth': 0.0, 'rgrad': 0.0}
    """
    valid = torch.isfinite(truth).to(found.dtype)
    truth = torch.where(valid > 0, truth, torch.zeros_like(truth))
    difference = standardise(found, valid) - standardise(truth, valid)
    return dict(
        adepth=masked_mean((found - truth).abs(), valid),
        rdepth=masked_mean(difference.abs(), valid),
        rgrad=sum(gradient_loss(*shrink(difference, valid, scale)) for scale in scales))


def standardise(depth: Tensor, valid: Tensor) -> Tensor:
    """Shift each map to mean 0 and scale it to mean absolute deviation 1, over its valid pixels."""
    count = valid.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    centred = depth - (depth * valid).sum(dim=(1, 2, 3), keepdim=True) / count
    deviation = (centred.abs() * valid).sum(dim=(1, 2, 3), keepdim=True) / count
    # A wall that the camera faces has no deviation.
    return centred / deviation.clamp(min=1e-3)


def shrink(values: Tensor, valid: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Average over blocks of ``scale`` pixels; a block counts where all of it is valid.

    Example:
        >>> values, valid = shrink(torch.arange(8.).view(1, 1, 2, 4), torch.ones(1, 1, 2, 4), 2)
        >>> values.flatten().tolist(), valid.flatten().tolist()
        ([2.5, 4.5], [1.0, 1.0])
    """
    if scale == 1:
        return values, valid
    return F.avg_pool2d(values, scale), (F.avg_pool2d(valid, scale) == 1).to(valid.dtype)


def gradient_loss(difference: Tensor, valid: Tensor) -> Tensor:
    """Return the mean absolute step of a map from pixel to pixel, over pairs of valid pixels, across plus down."""
    across = masked_mean((difference[..., 1:] - difference[..., :-1]).abs(), valid[..., 1:] * valid[..., :-1])
    down = masked_mean((difference[..., 1:, :] - difference[..., :-1, :]).abs(), valid[..., 1:, :] * valid[..., :-1, :])
    return across + down


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where the mask is 1, and 0 where it is 1 nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
