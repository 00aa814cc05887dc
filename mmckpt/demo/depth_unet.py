"""A small UNet that predicts depth on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn
from torch.nn import functional as F

from mmckpt.demo.depth_losses import depth_losses
from mmckpt.registry import MODELS


@MODELS.register_module()
class DepthUNet(BaseModel):
    """Encoder and decoder with connections between equal resolutions; one map of depth out.

    The loss is the sum of ``loss_adepth``, ``loss_rdepth`` and ``loss_rgrad``
    (see :func:`mmckpt.demo.depth_losses.depth_losses`), each times its weight
    and each logged.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for
    Biomedical Image Segmentation"; here with batch normalisation, padding and
    bilinear enlargement.

    Args:
        in_channels (int): 3 for colours, 5 with sparse depth and the hole mask.
        widths (Sequence[int]): Channels at each resolution; each further one
            halves it. Defaults to (16, 32, 64, 96).
        loss_weights (Sequence[float]): Of ``adepth``, ``rdepth`` and ``rgrad``.
            Defaults to (1, 1, 0.5).
        mean_depth (float): What an untrained net predicts about, in metres.
            Defaults to 3.
        data_preprocessor (dict, optional): Config of MMEngine's
            ``ImgDataPreprocessor``.
        init_cfg (dict, optional): As in MMEngine's ``BaseModel``.

    Example:
        >>> net = DepthUNet(in_channels=5)
        >>> net(torch.zeros(2, 5, 64, 64)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 1, 64, 64]), 386785)
    """

    def __init__(self,
                 in_channels: int,
                 widths: Sequence[int] = (16, 32, 64, 96),
                 loss_weights: Sequence[float] = (1.0, 1.0, 0.5),
                 mean_depth: float = 3.0,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.loss_weights, self.mean_depth = tuple(loss_weights), mean_depth
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([in_channels, *widths], widths))
        self.up = nn.ModuleList(
            _block(deep + shallow, shallow) for deep, shallow in zip(widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self,
                inputs: Tensor,
                data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the network.

        Args:
            inputs (Tensor): ``(N, C, H, W)``; H and W multiples of 8 with four widths.
            data_samples (list[BaseDataElement], optional): As ``PackDepthInputs``
                makes them; needed for all but ``'tensor'``.
            mode (str): ``'tensor'`` for depth ``(N, 1, H, W)`` in metres,
                ``'loss'`` for the losses, ``'predict'`` for the samples with
                ``pred_depth_map``.

        Returns:
            Tensor | dict | list: See ``mode``.

        Raises:
            ValueError: If ``mode`` is none of the three.
        """
        depth = self._depth(inputs)
        if mode == 'tensor':
            return depth
        if mode == 'loss':
            truth = torch.stack([s.gt_depth_map.data for s in data_samples]).to(depth)
            losses = depth_losses(depth.float(), truth.float())
            return {f'loss_{name}': weight * loss for weight, (name, loss) in zip(self.loss_weights, losses.items())}
        if mode == 'predict':
            for sample, found in zip(data_samples, depth):
                sample.pred_depth_map = PixelData(data=found)
            return data_samples
        raise ValueError(f"expected mode 'tensor', 'loss' or 'predict', found {mode!r}")

    def _depth(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False), skip], dim=1))
        # Always positive; the bound keeps a bad step from an overflow.
        return self.mean_depth * self.head(x).clamp(-8, 8).exp()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
