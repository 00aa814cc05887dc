"""What the tests of sharded training add to the small project."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, STRATEGIES

from mmckpt.strategy import FSDP2Strategy


@STRATEGIES.register_module()
class FailingStrategy(FSDP2Strategy):
    """The last rank cannot write the save of one iteration, the first one that of half of it; no other hears of it."""

    def __init__(self, fails_at=0, **kwargs):
        super().__init__(**kwargs)
        self.fails_at = fails_at

    def save_checkpoint(self, filename, *, extra_ckpt=None, **kwargs):
        if extra_ckpt['meta']['iter'] * 2 == self.fails_at and self.rank == 0:
            # The name of what only this rank writes is taken.
            os.makedirs(os.path.join(filename, 'rest.pth'))
        written = super().save_checkpoint(filename, extra_ckpt=extra_ckpt, **kwargs)
        if extra_ckpt['meta']['iter'] == self.fails_at and self.rank == self.world_size - 1:
            raise OSError('planted: no space left')
        return written


@HOOKS.register_module()
class WriteStart(Hook):
    """Writes all weights, gathered, and the moments of the optimizer as training begins."""

    def before_train(self, runner):
        def whole(tensor):
            return tensor.full_tensor() if hasattr(tensor, 'full_tensor') else tensor
        state = runner.optim_wrapper.optimizer.state
        found = {name: whole(value).detach() for name, value in runner.model.state_dict().items()}
        for name, p in runner.model.named_parameters():
            found.update({f'{name}.{key}': whole(value) for key, value in state.get(p, {}).items()})
        if runner.rank == 0:
            torch.save(found, os.path.join(runner.work_dir, f'start_{runner.world_size}_{runner.iter}.bin'))
