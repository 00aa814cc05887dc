"""A small convolutional key-point detector that trains on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from mmckpt.demo.heatmaps import decode_heatmaps, rescale_points, soft_argmax
from mmckpt.registry import MODELS


@MODELS.register_module()
class KeypointNet(BaseModel):
    """Six convolutions down to an eighth, two deconvolutions up to half: one heat map a key point.

    156 thousand parameters with the default widths and 5 key points.

    Args:
        num_keypoints (int): Heat maps to predict.
        channels (Sequence[int]): Widths of the six convolutions; the second,
            fourth and sixth halve the resolution. Defaults to
            (16, 32, 32, 64, 64, 64).
        deconv_channels (int): Width of the two deconvolutions. Defaults to 32.
        dropout (float): Share of feature maps dropped before the
            deconvolutions, while training. Defaults to 0.05.
        heatmap_loss_weight (float): Factor of the mean squared error of the
            heat maps. Defaults to 1000.
        coord_loss_weight (float): Factor of the mean absolute error, in cells,
            of the soft-argmax positions. Defaults to 0.5.
        data_preprocessor (dict, optional): Config of MMEngine's
            ``ImgDataPreprocessor``.
        init_cfg (dict, optional): As in MMEngine's ``BaseModel``.

    Raises:
        ValueError: If ``channels`` does not have six entries.

    Example:
        >>> net = KeypointNet(num_keypoints=5)
        >>> net(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5, 32, 32])
        >>> sum(p.numel() for p in net.parameters())
        156405
    """

    def __init__(self,
                 num_keypoints: int,
                 channels: Sequence[int] = (16, 32, 32, 64, 64, 64),
                 deconv_channels: int = 32,
                 dropout: float = 0.05,
                 heatmap_loss_weight: float = 1000.0,
                 coord_loss_weight: float = 0.5,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if len(channels) != 6:
            raise ValueError(f'expected six widths in channels, found {list(channels)}')
        self.heatmap_loss_weight = heatmap_loss_weight
        self.coord_loss_weight = coord_loss_weight
        self.backbone = conv_backbone(channels)
        self.head = nn.Sequential(
            nn.Dropout2d(dropout),
            deconv_block(channels[-1], deconv_channels),
            deconv_block(deconv_channels, deconv_channels),
            nn.Conv2d(deconv_channels, num_keypoints, 1))

    def forward(self,
                inputs: Tensor,
                data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the network.

        Args:
            inputs (Tensor): ``(N, 3, H, W)`` normalised; H and W multiples of 8.
            data_samples (list[BaseDataElement], optional): As
                ``PackKeypointInputs`` makes them; needed for all but ``'tensor'``.
            mode (str): ``'tensor'`` for heat maps ``(N, K, H/2, W/2)``,
                ``'loss'`` for the losses, ``'predict'`` for the samples with
                ``pred_instances`` in pixels of the whole picture.

        Returns:
            Tensor | dict | list: See ``mode``.

        Raises:
            ValueError: If ``mode`` is none of the three.
        """
        heatmaps = self.head(self.backbone(inputs))
        if mode == 'tensor':
            return heatmaps
        if mode == 'loss':
            return self._loss(heatmaps.float(), data_samples)
        if mode == 'predict':
            return add_predictions(heatmaps, data_samples)
        raise ValueError(f"expected mode 'tensor', 'loss' or 'predict', found {mode!r}")

    def _loss(self, heatmaps: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        cells = stack_labels(data_samples, 'keypoint_cells', heatmaps)
        weights = stack_labels(data_samples, 'keypoint_weights', heatmaps)
        distance = (soft_argmax(heatmaps) - cells).abs().sum(dim=2)
        visible = weights.sum().clamp(min=1)
        return dict(
            heatmap_loss=self.heatmap_loss_weight * heatmap_error(heatmaps, data_samples),
            coord_loss=self.coord_loss_weight * (distance * weights).sum() / visible)


def heatmap_error(heatmaps: Tensor, data_samples: list[BaseDataElement]) -> Tensor:
    """Return the mean squared error of heat maps against the targets, over labelled key points.

    Args:
        heatmaps (Tensor): ``(N, K, H, W)`` float.
        data_samples (list[BaseDataElement]): N samples with targets, as
            ``PackKeypointInputs`` makes them.
    """
    targets = torch.stack([s.gt_fields.heatmaps for s in data_samples]).to(heatmaps)
    weights = stack_labels(data_samples, 'keypoint_weights', heatmaps)
    squared = F.mse_loss(heatmaps, targets, reduction='none').mean(dim=(2, 3))
    return (squared * weights).sum() / weights.sum().clamp(min=1)


def add_predictions(heatmaps: Tensor, data_samples: list[BaseDataElement]) -> list[BaseDataElement]:
    """Write the peaks of heat maps into the samples, as ``pred_instances`` in pixels of the whole picture.

    Args:
        heatmaps (Tensor): ``(N, K, H, W)`` float.
        data_samples (list[BaseDataElement]): N samples.

    Returns:
        list[BaseDataElement]: The same samples.
    """
    cells, scores = decode_heatmaps(heatmaps)
    heatmap_size = (heatmaps.shape[3], heatmaps.shape[2])
    for sample, points, score in zip(data_samples, cells.cpu().numpy(), scores.cpu().numpy()):
        x1, y1, x2, y2 = sample.input_box
        in_box = rescale_points(points, heatmap_size, (x2 - x1, y2 - y1))
        sample.pred_instances = InstanceData(
            keypoints=(in_box + np.array([x1, y1]))[None].astype(np.float32), keypoint_scores=score[None])
    return data_samples


def conv_backbone(channels: Sequence[int]) -> nn.Sequential:
    """Return 3x3 convolutions with batch norm and ReLU, every second of which halves the resolution.

    Example:
        >>> conv_backbone((8, 16))(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 16, 32, 32])
    """
    widths = [3, *channels]
    return nn.Sequential(*[
        _conv_block(widths[i], widths[i + 1], stride=1 + i % 2) for i in range(len(channels))])


def _conv_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def deconv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a transposed convolution with batch norm and ReLU that doubles the resolution."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True))


def stack_labels(data_samples: list[BaseDataElement], name: str, like: Tensor) -> Tensor:
    """Return a training target of all samples as one tensor with the type and device of ``like``."""
    labels: list[Any] = [getattr(s.gt_instance_labels, name)[0] for s in data_samples]
    return torch.as_tensor(np.stack(labels), dtype=like.dtype, device=like.device)
