"""Models with the faults that a quick check looks for."""

import torch
from mmengine.registry import MODELS
from tiny_project import TinyNet
from torch import nn


@MODELS.register_module()
class FailingNet(TinyNet):
    """Its loss cannot be computed."""

    def forward(self, inputs, labels, mode='tensor'):
        if mode == 'loss':
            raise RuntimeError('sizes of heat maps and targets differ')
        return super().forward(inputs, labels, mode)


@MODELS.register_module()
class ForgetfulNet(TinyNet):
    """A head without a loss, a loss that is always 0 and one that is computed now and then."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.forgotten_head = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, inputs, labels, mode='tensor'):
        outputs = super().forward(inputs, labels, mode)
        if mode == 'loss':
            self.calls += 1
            outputs['loss_masked'] = outputs['loss_cls'] * 0
            if self.calls % 2:
                outputs['loss_now_and_then'] = torch.tensor(1.0)
        return outputs


@MODELS.register_module()
class UnpredictiveNet(TinyNet):
    """It trains, but cannot predict."""

    def forward(self, inputs, labels, mode='tensor'):
        if mode == 'predict':
            raise NotImplementedError('predict')
        return super().forward(inputs, labels, mode)
