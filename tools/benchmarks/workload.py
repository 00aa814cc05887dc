"""Training states of a given size, in a real Runner."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner

_names = itertools.count()


@dataclass(frozen=True)
class Size:
    """A model of equal square matrices; with AdamW its state is three times as large.

    Args:
        matrices (int): Number of matrices.
        side (int): Rows and columns of each, in float32.
    """

    matrices: int
    side: int

    @property
    def bytes(self) -> int:
        """Bytes of the tensors of the training state."""
        return 3 * 4 * self.matrices * self.side ** 2 + 4 * self.matrices


SIZES = {
    'tiny': Size(3, 32),
    '100MB': Size(8, 1024),
    '500MB': Size(40, 1024),
    '2GB': Size(160, 1024),
    # 4,000 tensors: 1,000 parameters and, for each, two moments and a step counter.
    'many': Size(1000, 64),
}


def size_names(text: str) -> list[str]:
    """Return the names of sizes in an argument of the command line, which are separated by commas."""
    names = text.split(',')
    unknown = sorted(set(names) - set(SIZES))
    if unknown:
        raise argparse.ArgumentTypeError(f'knows {", ".join(SIZES)}, but got {", ".join(unknown)}')
    return names


class Matrices(BaseModel):
    """A model whose training step costs little next to its size."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrices = torch.nn.ParameterList(
            torch.randn(size.side, size.side, generator=generator) for _ in range(size.matrices))

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> Any:
        """Return a loss that reaches every matrix."""
        total = torch.stack([matrix.mean() for matrix in self.matrices]).sum() * inputs.mean()
        return dict(loss=total) if mode == 'loss' else [total]


class Numbers(torch.utils.data.Dataset):
    """Samples that cost nothing."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return dict(inputs=torch.full((1,), float(index + 1)))


class Rising(BaseMetric):
    """Metrics that improve with every validation.

    Args:
        names (Sequence[str]): The metrics.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(prefix='val')
        self.names = names
        self.validations = 0

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Note that there was a sample."""
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return values that are higher than those before."""
        self.validations += 1
        return {name: float(self.validations) for name in self.names}


def loader(length: int, batch_size: int = 1, **kwargs: Any) -> dict[str, Any]:
    """Return a data loader config of :class:`Numbers`; further keys take precedence."""
    defaults = dict(dataset=Numbers(length), batch_size=batch_size, collate_fn=dict(type='default_collate'),
                    sampler=dict(type='DefaultSampler', shuffle=False))
    return {**defaults, **kwargs}


def make_runner(size: Size, work_dir: Path, checkpoint: dict[str, Any], *, metrics: Sequence[str] = (),
                epochs: int = 1, blocks: int = 0, **kwargs: Any) -> Runner:
    """Build a Runner around a model of a size.

    Args:
        size (Size): The size.
        work_dir (Path): Where files go.
        checkpoint (dict): Config of the checkpoint hook.
        metrics (Sequence[str]): Metrics of a validation after each epoch; none without them.
        epochs (int): Epochs of one iteration each. Defaults to 1.
        blocks (int): Blocks in the config that the Runner keeps; stock formats
            it with each save. Defaults to 0.
        **kwargs: Further arguments of the Runner, which take precedence.
    """
    MMLogger._instance_dict.clear()
    validation: dict[str, Any] = {}
    if metrics:
        validation = dict(val_dataloader=loader(1), val_cfg=dict(), val_evaluator=[Rising(metrics)])
    arguments = dict(
        train_dataloader=loader(1), train_cfg=dict(by_epoch=True, max_epochs=epochs), **validation,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-4, fused=True)),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=10 ** 9)),
        custom_hooks=[dict(type='mmckpt.RNGStateHook')] if checkpoint['type'].startswith('mmckpt') else [],
        randomness=dict(seed=0), experiment_name=f'benchmark{next(_names)}', log_level='ERROR',
        env_cfg=dict(mp_cfg=dict(mp_start_method=multiprocessing.get_start_method())),
        cfg=_config(blocks))
    return Runner(Matrices(size), str(work_dir), **{**arguments, **kwargs})


def _config(blocks: int) -> Config:
    """Return a config like those of real detectors: a few literals for each block of the network."""
    block = dict(type='Bottleneck', in_channels=256, out_channels=256, stride=1, dilation=1, with_cp=False,
                 conv_cfg=dict(type='Conv2d', kernel_size=3, padding=1, bias=False),
                 norm_cfg=dict(type='SyncBN', requires_grad=True, eps=1e-05, momentum=0.1),
                 act_cfg=dict(type='ReLU', inplace=True))
    return Config(dict(model=dict(type='Matrices', blocks=[dict(block) for _ in range(blocks)])))
