"""A network that finds the key points that a support picture shows, on pictures of any category."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmckpt.demo.keypoint_net import add_predictions, conv_backbone, deconv_block, heatmap_error
from mmckpt.registry import MODELS


@MODELS.register_module()
class EpisodicKeypointNet(BaseModel):
    """Matches the features at the key points of a support picture with those of query pictures.

    A batch holds whole episodes, as ``EpisodeSampler`` lays them out. The
    prototype of a key point is the mean of the support's features under its
    heat map, over the shots; its product with the query's features, through
    three convolutions shared by all key points, is the heat map. No parameter
    belongs to a category or to a number of key points, so key points in another
    order or number work as well. 159 thousand parameters.

    Args:
        shots (int): Support pictures of an episode. Defaults to 1.
        queries (int): Query pictures of an episode. Defaults to 7.
        channels (Sequence[int]): Widths of the convolutions down to an eighth.
            Defaults to (16, 32, 32, 64, 64, 64).
        feature_channels (int): Width of the features that are matched.
            Defaults to 32.
        heatmap_loss_weight (float): Factor of the mean squared error of the
            heat maps. Defaults to 1000.
        data_preprocessor (dict, optional): Config of MMEngine's
            ``ImgDataPreprocessor``.
        init_cfg (dict, optional): As in MMEngine's ``BaseModel``.

    Source:
        Xu et al., "Pose for Everything: Towards Category-Agnostic Pose
        Estimation" (POMNet), ECCV 2022, poses the task and solves it by
        matching; its transformer between key points is left out here.
    """

    def __init__(self,
                 shots: int = 1,
                 queries: int = 7,
                 channels: Sequence[int] = (16, 32, 32, 64, 64, 64),
                 feature_channels: int = 32,
                 heatmap_loss_weight: float = 1000.0,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.shots, self.size = shots, shots + queries
        self.heatmap_loss_weight = heatmap_loss_weight
        self.encoder = nn.Sequential(
            conv_backbone(channels), deconv_block(channels[-1], feature_channels),
            deconv_block(feature_channels, feature_channels))
        self.matcher = nn.Sequential(
            nn.Conv2d(feature_channels, 16, 1), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 1))

    def forward(self,
                inputs: Tensor,
                data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the network.

        Args:
            inputs (Tensor): ``(N, 3, H, W)`` normalised; N a multiple of
                ``shots + queries``.
            data_samples (list[BaseDataElement], optional): N samples as
                ``PackKeypointInputs`` makes them; of the support, the heat maps
                are used as input.
            mode (str): ``'tensor'`` for the features ``(N, C, H/2, W/2)``,
                ``'loss'`` for the loss on the queries, ``'predict'`` for the
                query samples with ``pred_instances``.

        Returns:
            Tensor | dict | list: See ``mode``.

        Raises:
            ValueError: If the batch does not hold whole episodes, or ``mode``
                is none of the three.
        """
        features = self.encoder(inputs)
        if mode == 'tensor':
            return features
        if mode not in ('loss', 'predict'):
            raise ValueError(f"expected mode 'tensor', 'loss' or 'predict', found {mode!r}")
        if len(inputs) % self.size:
            raise ValueError(
                f'expected whole episodes of {self.size} pictures, found a batch of {len(inputs)}: set batch_size to '
                f'a multiple of {self.size} and shots and queries alike in the model and EpisodeSampler')
        heatmaps, queries = self._match(features, data_samples)
        if mode == 'loss':
            return dict(heatmap_loss=self.heatmap_loss_weight * heatmap_error(heatmaps.float(), queries))
        return add_predictions(heatmaps, queries)

    def _match(self, features: Tensor, data_samples: list[BaseDataElement]) -> tuple[Tensor, list[BaseDataElement]]:
        """Return heat maps ``(Q, K, H, W)`` of all queries of the batch, and their samples."""
        heatmaps, queries = [], []
        for start in range(0, len(features), self.size):
            support, query = features[start:start + self.size].split([self.shots, self.size - self.shots])
            prototypes = _prototypes(support, data_samples[start:start + self.shots])
            products = query[:, None] * prototypes[None, :, :, None, None]
            heatmaps.append(self.matcher(products.flatten(0, 1)).unflatten(0, products.shape[:2]).squeeze(2))
            queries += data_samples[start + self.shots:start + self.size]
        return torch.cat(heatmaps), queries


def _prototypes(support: Tensor, samples: list[BaseDataElement]) -> Tensor:
    """Return ``(K, C)``: the mean of the features ``(S, C, H, W)`` under each key point's heat map."""
    weights = torch.stack([s.gt_fields.heatmaps for s in samples]).to(support)
    total = weights.sum(dim=(0, 2, 3)).clamp(min=1e-6)
    return torch.einsum('skhw,schw->kc', weights, support) / total[:, None]
