"""A key-point detector whose deeper pass teaches its shallower one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from mmckpt.demo.keypoint_net import add_predictions, conv_backbone, deconv_block, heatmap_error
from mmckpt.registry import MODELS


@MODELS.register_module()
class SelfDistilledKeypointNet(BaseModel):
    """Tokens of the picture and of the key points go through the same transformer twice.

    The second pass is the deeper network with the same parameters; its tokens,
    detached, are the targets of the first. Predictions take the first pass
    only, so that the teacher costs nothing once training is over. 230
    thousand parameters with the default widths and 5 key points.

    Losses: ``heatmap_loss`` (both passes), ``vis_dist_loss`` (tokens of the
    picture) and ``kpt_dist_loss`` (tokens of the key points). With the default
    weight the last two are of the order of 1e-4 beside a ``heatmap_loss`` of 3
    and more: what a monitor of losses has to cope with.

    Args:
        num_keypoints (int): Heat maps to predict.
        input_size (tuple[int, int]): Width and height of the input, multiples
            of 8. Defaults to (64, 64).
        channels (Sequence[int]): Widths of the convolutions down to an eighth;
            the last is the width of the tokens. Defaults to
            (16, 32, 32, 64, 64, 64).
        heads (int): Attention heads. Defaults to 4.
        layers (int): Transformer layers in one pass. Defaults to 2.
        heatmap_loss_weight (float): Factor of the mean squared error of the
            heat maps of each pass. Defaults to 1000.
        token_loss_weight (float): Factor of the mean squared distance of the
            tokens. Defaults to 2e-3.
        data_preprocessor (dict, optional): Config of MMEngine's
            ``ImgDataPreprocessor``.
        init_cfg (dict, optional): As in MMEngine's ``BaseModel``.

    Raises:
        ValueError: If ``input_size`` is no multiple of 8.

    Example:
        >>> net = SelfDistilledKeypointNet(num_keypoints=5)
        >>> net(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5, 32, 32])

    Source:
        The method is that of Chen et al., "SDPose: Tokenized Pose Estimation
        via Circulation-Guide Self-Distillation", CVPR 2024, at a size for two
        CPU cores. Here a heat map is the product of a key point's token with
        the enlarged tokens of the picture; there a linear layer makes it from
        the key point's token alone, which needs more data than 1,401 digits.
    """

    def __init__(self,
                 num_keypoints: int,
                 input_size: tuple[int, int] = (64, 64),
                 channels: Sequence[int] = (16, 32, 32, 64, 64, 64),
                 heads: int = 4,
                 layers: int = 2,
                 heatmap_loss_weight: float = 1000.0,
                 token_loss_weight: float = 2e-3,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if input_size[0] % 8 or input_size[1] % 8:
            raise ValueError(f'expected an input_size in multiples of 8, found {tuple(input_size)}')
        self.heatmap_loss_weight, self.token_loss_weight = heatmap_loss_weight, token_loss_weight
        width = channels[-1]
        self.grid = (input_size[1] // 8, input_size[0] // 8)
        self.backbone = conv_backbone(channels)
        self.positions = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))
        self.keypoint_tokens = nn.Parameter(0.02 * torch.randn(num_keypoints, width))
        self.transformer = nn.ModuleList([
            nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, activation='gelu', batch_first=True,
                                       norm_first=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.enlarge = nn.Sequential(deconv_block(width, width // 2), deconv_block(width // 2, width // 2))
        self.query = nn.Linear(width, width // 2)

    def forward(self,
                inputs: Tensor,
                data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the network.

        Args:
            inputs (Tensor): ``(N, 3, H, W)`` normalised.
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
        student = self._pass(self._tokens(inputs))
        if mode == 'loss':
            return self._loss(student, self._pass(student), data_samples)
        heatmaps = self._heatmaps(*self._read(student))
        if mode == 'tensor':
            return heatmaps
        if mode == 'predict':
            return add_predictions(heatmaps, data_samples)
        raise ValueError(f"expected mode 'tensor', 'loss' or 'predict', found {mode!r}")

    def _tokens(self, inputs: Tensor) -> Tensor:
        """Return ``(N, K + h * w, C)``: the key points' tokens first."""
        picture = self.backbone(inputs).flatten(2).transpose(1, 2) + self.positions
        return torch.cat([self.keypoint_tokens.expand(len(picture), -1, -1), picture], dim=1)

    def _pass(self, tokens: Tensor) -> Tensor:
        for layer in self.transformer:
            tokens = layer(tokens)
        return tokens

    def _read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised tokens of the key points ``(N, K, C)`` and of the picture ``(N, h * w, C)``."""
        count = len(self.keypoint_tokens)
        tokens = self.norm(tokens)
        return tokens[:, :count], tokens[:, count:]

    def _heatmaps(self, points: Tensor, picture: Tensor) -> Tensor:
        enlarged = self.enlarge(picture.transpose(1, 2).unflatten(2, self.grid))
        return torch.einsum('nkc,nchw->nkhw', self.query(points), enlarged) / enlarged.shape[1]**0.5

    def _loss(self, student: Tensor, teacher: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        passes = [self._read(tokens) for tokens in (student, teacher)]
        errors = [heatmap_error(self._heatmaps(*tokens).float(), data_samples) for tokens in passes]
        # A teacher that could be moved towards its pupil would learn to say nothing.
        kpt_distance, vis_distance = (F.mse_loss(pupil, target.detach()) for pupil, target in zip(*passes))
        return dict(
            heatmap_loss=self.heatmap_loss_weight * sum(errors),
            vis_dist_loss=self.token_loss_weight * vis_distance,
            kpt_dist_loss=self.token_loss_weight * kpt_distance)
