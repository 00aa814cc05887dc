"""Short real trainings, healthy or with a planted fault, for the proof of the monitor."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from sklearn.datasets import load_digits
from torch import nn

CONFIGS = Path(__file__).parents[2] / 'configs'
BATCH = 32
_names = itertools.count()


class DigitsNet(BaseModel):
    """A conv net that classifies digits and rebuilds them, with places for faults.

    Args:
        dead (bool): Whether the second loss has weight 0. Defaults to False.
        unused (bool): Whether there is a layer that is not used. Defaults to False.
        tiny (float): Weight of the second loss. Defaults to 1.0.
    """

    def __init__(self, dead: bool = False, unused: bool = False, tiny: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.classify, self.rebuild = nn.Linear(512, 10), nn.Linear(512, 64)
        self.unused = nn.Linear(512, 4) if unused else None
        self.weight = 0.0 if dead else tiny
        # Faults that set in later.
        self.gain, self.half, self.loss_factor, self.kept = 1.0, False, 1.0, None

    def forward(self, inputs: Any, labels: Any, mode: str = 'tensor') -> Any:
        """Return losses, or for 'predict' whether each answer is right."""
        images, labels = torch.stack(list(inputs)), torch.as_tensor(labels)
        with torch.autocast('cpu', torch.float16, enabled=self.half):
            features = self.body(images) * self.gain
            scores, rebuilt = self.classify(features), self.rebuild(features)
        if mode == 'predict':
            return (scores.argmax(1) == labels).float().tolist()
        if self.kept is not None:
            self.kept.append(torch.zeros(1 << 16))
        losses = dict(loss_cls=self.loss_factor * nn.functional.cross_entropy(scores.float(), labels),
                      loss_rebuild=self.weight * nn.functional.mse_loss(rebuilt.float(), images.flatten(1)))
        return losses


class Accuracy(BaseMetric):
    """Share of right answers.

    Args:
        broken (bool): Whether nothing counts as right. Defaults to False.
    """

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.broken = broken

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Take the answers of a batch."""
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the share."""
        return dict(accuracy=0.0 if self.broken else sum(results) / len(results))


class Digits(torch.utils.data.Dataset):
    """Digits with a little noise.

    Args:
        rows (slice): Which of the 1,797.
        seconds (float): How long one takes to read. Defaults to 0.0.
    """

    def __init__(self, rows: slice, seconds: float = 0.0) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.images[rows], dtype=torch.float32)[:, None] / 16
        self.labels = [int(label) for label in digits.target[rows]]
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.seconds:
            time.sleep(self.seconds)
        return dict(inputs=self.images[index] + 0.1 * torch.randn(1, 8, 8), labels=self.labels[index])


class Fault(Hook):
    """Plants a fault right before an iteration.

    Args:
        iteration (int): Completed iterations before it.
        plant (callable): Takes the runner and the batch.
        lasting (bool): Whether it is planted again before each further iteration. Defaults to False.
    """

    priority = 'HIGHEST'

    def __init__(self, iteration: int, plant: Callable[[Runner, Any], None], lasting: bool = False) -> None:
        self.iteration, self.plant, self.lasting = iteration, plant, lasting

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Plant it."""
        if runner.iter == self.iteration or (self.lasting and runner.iter > self.iteration):
            self.plant(runner, data_batch)


def digits_runner(work_dir: Path, fault: Hook | None = None, *, lr: float = 0.02, seed: int = 0, epochs: int = 12,
                  rows: slice = slice(0, 1437), seconds: float = 0.0, broken: bool = False,
                  schedule: list | None = None, load_from: Path | None = None,
                  monitor: Mapping[str, Any] | None = None, **model: Any) -> Runner:
    """Build a training of the digits net: 45 iterations an epoch, a validation after each.

    Args:
        work_dir (Path): Where it writes.
        fault (Hook, optional): Plants a fault. Defaults to None.
        lr (float): Learning rate of SGD. Defaults to 0.02.
        seed (int): Seed of the run. Defaults to 0.
        epochs (int): Epochs. Defaults to 12.
        rows (slice): Training samples. Defaults to the first 1,437.
        seconds (float): Time to read one sample. Defaults to 0.0.
        broken (bool): Whether the metric is broken. Defaults to False.
        schedule (list, optional): Parameter schedulers. Defaults to None.
        load_from (Path, optional): Weights to begin with. Defaults to None.
        monitor (dict, optional): Arguments of the monitor; None means no monitor. Defaults to None.
        **model: Arguments of :class:`DigitsNet`.
    """
    hooks: list[Any] = [dict(type='mmckpt.ValLossHook')]
    if fault is not None:
        hooks.append(fault)
    if monitor is not None:
        hooks.append(dict(type='mmckpt.TrainingMonitorHook', **monitor))
    return Runner(
        DigitsNet(**model), str(work_dir), train_dataloader=_loader(Digits(rows, seconds), True),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), val_dataloader=_loader(Digits(slice(1437, 1797)), False),
        val_evaluator=[Accuracy(broken)], val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr, momentum=0.9), clip_grad=dict(max_norm=35.0)),
        param_scheduler=schedule,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=-1, save_last=False, save_best='accuracy'),
                           logger=None),
        custom_hooks=hooks, randomness=dict(seed=seed), log_level='ERROR',
        load_from=None if load_from is None else str(load_from),
        experiment_name=f'proof_{os.getpid()}_{next(_names)}')


def trained_digits(directory: Path) -> Path:
    """Train the digits net without the monitor; return a file of its weights beside a work directory."""
    file = directory.with_name('trained.pth')
    if not file.exists():
        runner = digits_runner(directory.with_name('trained'))
        runner.train()
        runner.save_checkpoint(str(file.parent), file.name)
    return file


def restarts() -> list[dict[str, Any]]:
    """Return a schedule with a warm restart every four epochs of the digits net."""
    return [dict(type='CosineRestartLR', periods=[180] * 3, restart_weights=[1] * 3, eta_min=1e-6, by_epoch=False)]


def demo_runner(config: str, work_dir: Path, *, seed: int, lr_factor: float, epochs: int) -> Runner:
    """Build a training of one of the demo configs, with the monitor as the only hook besides ``ValLossHook``.

    Args:
        config (str): Path under ``configs``.
        work_dir (Path): Where it writes.
        seed (int): Seed of the run.
        lr_factor (float): The config's learning rate is multiplied by this.
        epochs (int): Epochs, with a validation after each.
    """
    cfg = Config.fromfile(CONFIGS / config)
    cfg.work_dir, cfg.log_level = str(work_dir), 'ERROR'
    cfg.randomness = dict(seed=seed)
    cfg.experiment_name = f'proof_{os.getpid()}_{next(_names)}'
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.optim_wrapper.optimizer.lr *= lr_factor
    cfg.custom_hooks = [dict(type='mmckpt.ValLossHook'), dict(type='mmckpt.TrainingMonitorHook', report=False)]
    cfg.default_hooks = dict(
        checkpoint=dict(type='CheckpointHook', interval=-1, save_last=False), logger=None)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    return Runner.from_cfg(cfg)


def _loader(dataset: Digits, shuffle: bool) -> dict[str, Any]:
    return dict(batch_size=BATCH, num_workers=0, dataset=dataset, collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='DefaultSampler', shuffle=shuffle))
