"""A small real project: handwritten digits, a conv net with BN and dropout, augmentation from three streams."""

import os
import random
import signal

import numpy as np
import torch
from digits_file import load_digits
from mmengine._strategy import SingleDeviceStrategy
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, STRATEGIES
from torch import nn


@DATASETS.register_module()
class TinyDigits(BaseDataset):
    """Digits of scikit-learn; training samples are disturbed by python, numpy and torch draws."""

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, train, **kwargs):
        self.train = train
        # To serialize 384 digits would walk all objects of the process twice, for most of a second.
        super().__init__(serialize_data=False, **kwargs)

    def load_data_list(self):
        digits = load_digits()
        span = slice(0, 256) if self.train else slice(256, 384)
        return [dict(image=i.astype(np.float32) / 16, label=int(t))
                for i, t in zip(digits.images[span], digits.target[span])]

    def prepare_data(self, idx):
        sample = self.get_data_info(idx)
        image = torch.from_numpy(sample['image'])[None]
        if self.train:
            image = torch.roll(image, random.randint(-1, 1), -1) * float(np.random.uniform(.8, 1.2))
            image = image + .1 * torch.randn(image.shape)
        return dict(inputs=image, labels=torch.tensor(sample['label']))


@MODELS.register_module()
class TinyNet(BaseModel):
    """One convolution with BN, dropout and a linear head."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Flatten(), nn.Dropout(.2), nn.Linear(width * 64, 10))

    def forward(self, inputs, labels, mode='tensor'):
        inputs = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        labels = torch.stack(labels) if isinstance(labels, (list, tuple)) else labels
        scores = self.body(inputs)
        if mode == 'loss':
            return dict(loss_cls=nn.functional.cross_entropy(scores, labels),
                        loss_norm=1e-4 * scores.square().mean())
        return [dict(pred=s.argmax().item(), label=t.item()) for s, t in zip(scores, labels)]


@METRICS.register_module()
class TinyAccuracy(BaseMetric):
    """Share of right answers."""

    def process(self, data_batch, data_samples):
        self.results += [s['pred'] == s['label'] for s in data_samples]

    def compute_metrics(self, results):
        return dict(acc=float(np.mean(results)))


@HOOKS.register_module()
class KillHook(Hook):
    """Ends this process with SIGKILL (or another end) at the nth call of an event, once."""

    priority = 'LOWEST'

    def __init__(self, event, nth=1, how='kill', priority='LOWEST'):
        self.priority, self.left, self.how = priority, nth, how
        setattr(self, event, self._count)

    def _count(self, runner, **kwargs):
        self.left -= 1
        if self.left == 0:
            end_process(self.how)


def end_process(how):
    if how == 'raise':
        raise RuntimeError('planted failure')
    os.kill(os.getpid(), {'kill': signal.SIGKILL, 'term': signal.SIGTERM, 'int': signal.SIGINT}[how])


def kill_at_call(name, nth):
    """Replace ``os.<name>`` by one that ends the process at its nth call, before it acts."""
    real, calls = getattr(os, name), []

    def counting(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth:
            end_process('kill')
        return real(*args, **kwargs)

    setattr(os, name, counting)


if 'TINY_KILL_AT' in os.environ:
    _name, _nth = os.environ['TINY_KILL_AT'].split(':')
    kill_at_call(_name, int(_nth))


@HOOKS.register_module()
class KillRank(KillHook):
    """Kills rank 1 only, before torchrun has restarted anything."""

    def __init__(self, nth):
        super().__init__('after_train_iter', nth)

    def _count(self, runner, **kwargs):
        if runner.rank == 1 and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':
            super()._count(runner)


@HOOKS.register_module()
class PlantNaN(Hook):
    """Puts a NaN pixel into the batch of some iterations (completed counts), the first time that they come.

    Args:
        at (Sequence[int]): The iterations.
        rank (int): The rank whose batch it is. Defaults to 0.
        again (bool): Whether it is there each time. Defaults to False.
    """

    def __init__(self, at, rank=0, again=False):
        self.left, self.rank, self.again = set(at), rank, again

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.left and runner.rank == self.rank:
            data_batch['inputs'][3] = torch.full_like(data_batch['inputs'][3], float('nan'))
            if not self.again:
                self.left.remove(runner.iter + 1)


@HOOKS.register_module()
class WriteWeights(Hook):
    """Writes the parameters of each rank when training ends."""

    def after_train(self, runner):
        weights = {name: p.detach() for name, p in runner.model.named_parameters()}
        torch.save(weights, os.path.join(runner.work_dir, f'weights_{runner.rank}.bin'))


@HOOKS.register_module()
class WriteSamples(Hook):
    """Writes what identifies the samples of each batch, by rank."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        path = os.path.join(runner.work_dir, f'seen_{runner.world_size}_{runner.rank}.txt')
        with open(path, 'a') as file:
            # The sum of a disturbed image tells sample and augmentation.
            sums = ' '.join(f'{float(image.sum()):.6f}' for image in data_batch['inputs'])
            file.write(f'{runner.iter}: {sums}\n')


@STRATEGIES.register_module()
class OwnFileStrategy(SingleDeviceStrategy):
    """Writes one file itself, as FSDPStrategy does with whole states."""

    def save_checkpoint(self, filename, **kwargs):
        super().save_checkpoint(filename, **kwargs)
