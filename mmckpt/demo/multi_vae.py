"""A variational autoencoder that recommends items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from mmckpt.registry import MODELS


@MODELS.register_module()
class MultiVAE(BaseModel):
    """MultiVAE: items -> 600 -> 200 latent -> 600 -> items, with a multinomial likelihood.

    The loss is ``loss_nll``, the negative log-likelihood of the items, plus
    ``loss_kl``, the divergence of the latent distribution from the standard
    normal one, times a weight that grows linearly with the updates up to
    ``anneal_cap``. The counter of the updates is a buffer: a resume goes on
    with the weight that the run had. In evaluation the items are those held
    out, the latent is its mean and the weight is ``anneal_cap``, so that the
    validation losses of all epochs compare.

    Source: Liang et al. 2018, "Variational Autoencoders for Collaborative
    Filtering", sections 2 and 4.

    Args:
        num_items (int): Items of the data set; the widths of both ends.
        hidden (int): Width of the hidden layers. Defaults to 600.
        latent (int): Size of the latent. Defaults to 200.
        dropout (float): Share of a user's items hidden while training.
            Defaults to 0.5.
        anneal_cap (float): Largest weight of the divergence. Defaults to 0.2.
        anneal_updates (int): Updates until it is reached. Defaults to 1000.
        data_preprocessor (dict, optional): Config of MMEngine's
            ``ImgDataPreprocessor``.
        init_cfg (dict, optional): As in MMEngine's ``BaseModel``.

    Example:
        >>> net = MultiVAE(num_items=50, hidden=20, latent=8)
        >>> net(torch.zeros(3, 50)).shape, net.anneal_weight()
        (torch.Size([3, 50]), 0.0)
    """

    def __init__(self,
                 num_items: int,
                 hidden: int = 600,
                 latent: int = 200,
                 dropout: float = 0.5,
                 anneal_cap: float = 0.2,
                 anneal_updates: int = 1000,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.num_items, self.latent = num_items, latent
        self.dropout, self.anneal_cap, self.anneal_updates = dropout, anneal_cap, anneal_updates
        self.encoder = nn.Sequential(nn.Linear(num_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, num_items))
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=0.001)
        self.register_buffer('updates', torch.zeros((), dtype=torch.long))

    def anneal_weight(self) -> float:
        """Return the weight of the divergence after the updates that were made."""
        return min(self.anneal_cap, self.anneal_cap * self.updates.item() / self.anneal_updates)

    def forward(self,
                inputs: Tensor,
                data_samples: Sequence[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | Sequence[BaseDataElement]:
        """Run the network.

        Args:
            inputs (Tensor): ``(N, num_items)``, 1 where the user has the item.
            data_samples (Sequence[BaseDataElement], optional): With ``held_out``
                items where there are any; needed for all but ``'tensor'``.
            mode (str): ``'tensor'`` for scores ``(N, num_items)``, ``'loss'``
                for the losses, ``'predict'`` for the samples with ``pred_scores``.

        Returns:
            Tensor | dict | Sequence: See ``mode``.

        Raises:
            ValueError: If the inputs do not have ``num_items`` columns, or
                ``mode`` is none of the three.
        """
        if inputs.shape[1] != self.num_items:
            raise ValueError(
                f'the model has num_items={self.num_items}, the data have {inputs.shape[1]}: pass '
                f'--cfg-options model.num_items={inputs.shape[1]}, or choose the data that the model was made for')
        mean, log_variance = self._encode(inputs)
        scores = self.decoder(self._sample(mean, log_variance))
        if mode == 'tensor':
            return scores
        if mode == 'loss':
            return self._loss(scores, mean, log_variance, self._targets(inputs, data_samples))
        if mode == 'predict':
            for sample, row in zip(data_samples, scores):
                sample.pred_scores = row
            return data_samples
        raise ValueError(f"expected mode 'tensor', 'loss' or 'predict', found {mode!r}")

    def _encode(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(F.dropout(F.normalize(inputs, dim=1), self.dropout, self.training))
        return hidden[:, :self.latent], hidden[:, self.latent:]

    def _sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        if not self.training:
            return mean
        return mean + torch.randn_like(mean) * (log_variance / 2).exp()

    def _targets(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> Tensor:
        """What the scores should explain: in training what was shown, in evaluation what was held out."""
        if self.training:
            return inputs
        targets = torch.zeros_like(inputs)
        for row, sample in zip(targets, data_samples):
            row[sample.held_out] = 1
        return targets

    def _loss(self, scores: Tensor, mean: Tensor, log_variance: Tensor, targets: Tensor) -> dict[str, Tensor]:
        likelihood = (F.log_softmax(scores, dim=1) * targets).sum(dim=1)
        divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)
        weight = self.anneal_weight() if self.training else self.anneal_cap
        if self.training:
            self.updates += 1
        return dict(loss_nll=-likelihood.mean(), loss_kl=weight * divergence.mean())
