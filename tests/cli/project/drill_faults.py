"""What makes a resumed run another run, planted one by one (resume drill)."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from tiny_project import TinyNet


@MODELS.register_module()
class NoisyNet(TinyNet):
    """Draws noise from a generator of its own, which is in no checkpoint."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = torch.Generator().manual_seed(1)

    def forward(self, inputs, labels, mode='tensor'):
        inputs = torch.stack(inputs)
        return super().forward(inputs + .1 * torch.randn(inputs.shape, generator=self.noise), labels, mode)


@MODELS.register_module()
class RestlessNet(TinyNet):
    """Draws from a generator that nobody seeds: no two runs are alike."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.random = np.random.default_rng()

    def forward(self, inputs, labels, mode='tensor'):
        inputs = torch.stack(inputs) * float(self.random.uniform(.9, 1.1))
        return super().forward(inputs, labels, mode)


@HOOKS.register_module()
class CoolingHook(Hook):
    """Lowers the learning rate each third iteration, by a count that it tells nobody."""

    def __init__(self):
        self.seen = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen += 1
        if self.seen % 3 == 0:
            for group in runner.optim_wrapper.param_groups:
                group['lr'] *= .9
