"""A real Runner on a tiny real model, for the tests of hooks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner

_names = itertools.count()


class Net(BaseModel):
    """Batch normalisation, dropout and two loss terms; ``mode='loss'`` needs a target."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(4, 1)

    def forward(self, inputs, target=None, mode='tensor'):
        out = self.head(self.drop(self.norm(inputs)))
        if mode == 'loss':
            return dict(heatmap_loss=(out - target).square().mean(), loss_l1=[(out - target).abs().mean()],
                        acc_pose=(out > 0).float().mean())
        return list(out)


class Points(torch.utils.data.Dataset):
    """Noise around a plane, always the same."""

    def __init__(self, n, keys=('inputs', 'target')):
        generator = torch.Generator().manual_seed(n)
        self.inputs = torch.randn(n, 4, generator=generator)
        self.target = self.inputs.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=generator)
        self.keys = keys

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        sample = dict(inputs=self.inputs[i], target=self.target[i])
        return {key: sample[key] for key in self.keys}


class Scripted(BaseMetric):
    """A metric that takes the values it is given, one a validation, as a recorded run would.

    Args:
        values (Iterable[dict]): The metrics of each validation.
    """

    def __init__(self, values: Iterable[dict]):
        super().__init__(prefix='')
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def evaluate(self, size):
        self.results.clear()
        return dict(next(self.values))

    def compute_metrics(self, results):
        raise NotImplementedError


def loader(n, batch_size=4, shuffle=False, **kwargs):
    return dict(dataset=Points(n, **kwargs), batch_size=batch_size, collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=shuffle))


def make_runner(work_dir, values, hooks=(), epochs=3, checkpoint=None, model=None, train=None, val=None,
                **kwargs):
    """Build a Runner whose validations give ``values``; train with ``.train()``.

    Args:
        work_dir (Path): Where files go.
        values (Iterable[dict]): Metrics of each validation, in order.
        hooks (Sequence[dict]): Custom hooks.
        epochs (int): Length of the training. Defaults to 3.
        checkpoint (dict, optional): Config of the checkpoint hook; None is
            MMEngine's, with an interval longer than the run.
        model (BaseModel, optional): Defaults to :class:`Net`.
        train (dict or DataLoader, optional): Training data loader. Defaults to
            twelve samples in shuffled batches of four.
        val (dict, optional): Validation data loader. Defaults to ten samples
            in batches of four.
        **kwargs: Further arguments of the Runner; ``runner`` is the class of another one.
    """
    never = dict(type='CheckpointHook', interval=99, save_last=False)
    torch.manual_seed(7)
    MMLogger._instance_dict.clear()
    return kwargs.pop('runner', Runner)(
        model or Net(), work_dir=str(work_dir),
        train_dataloader=train or loader(12, shuffle=True), val_dataloader=val or loader(10),
        train_cfg=kwargs.pop('train_cfg', dict(by_epoch=True, max_epochs=epochs)),
        val_cfg=kwargs.pop('val_cfg', dict()),
        val_evaluator=[Scripted(values)],
        optim_wrapper=kwargs.pop('optim_wrapper', dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))),
        default_hooks=dict(checkpoint=checkpoint or never),
        custom_hooks=list(hooks), randomness=dict(seed=7), experiment_name=f'toy{next(_names)}', **kwargs)


def read_log(work_dir):
    return '\n'.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))
