"""Real trainings of a small conv net on handwritten digits, with faults to plant."""

import glob
import itertools
import os

import torch
from digits_file import load_digits
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

_names = itertools.count()


class DigitNet(BaseModel):
    """A conv net with two losses, one of them a list, and one scalar that is no loss."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
        self.classify, self.rebuild = nn.Linear(512, 10), nn.Linear(512, 64)

    def forward(self, inputs, labels, mode='tensor'):
        inputs, labels = torch.stack(list(inputs)), torch.as_tensor(labels)
        features = self.body(inputs)
        scores = self.classify(features)
        hits = (scores.argmax(1) == labels).float()
        if mode == 'predict':
            return hits.tolist()
        apart = (self.rebuild(features) - inputs.flatten(1)).square()
        return dict(heatmap_loss=nn.functional.cross_entropy(scores, labels),
                    rebuild_loss=[apart[:, :32].mean(), apart[:, 32:].mean()], hits=hits.mean())


class Hits(BaseMetric):
    """Share of right answers, named as COCO's evaluator names its AP."""

    default_prefix = 'coco'

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(AP=sum(results) / len(results), odd=float(len(results)))


class At(Hook):
    """Does something to the runner after the completed iterations given, before all other hooks."""

    priority = 'HIGHEST'

    def __init__(self, iters, action):
        self.iters, self.action = iters, action

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 in self.iters:
            self.action(runner, outputs)


def digits(span):
    data = load_digits()
    images = torch.tensor(data.images[span], dtype=torch.float32)[:, None] / 16
    return [dict(inputs=image, labels=int(label)) for image, label in zip(images, data.target[span])]


def loader(span, shuffle):
    return dict(batch_size=16, num_workers=0, dataset=digits(span), collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='DefaultSampler', shuffle=shuffle))


def make_runner(work_dir, *hooks, epochs=3, by_epoch=True, validate=True, checkpoint=None, **kwargs):
    """Build a Runner that trains 10 iterations an epoch and validates after each (or every 10 iterations)."""
    train_cfg = dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(
        by_epoch=False, max_iters=10 * epochs)
    if validate:
        kwargs.update(val_dataloader=loader(slice(160, 260), False), val_evaluator=[Hits()], val_cfg=dict())
        train_cfg['val_interval'] = 1 if by_epoch else 10
    return Runner(
        DigitNet(), str(work_dir), train_dataloader=loader(slice(0, 160), True), train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), clip_grad=dict(max_norm=35.0)),
        default_hooks=dict(logger=None, timer=None, checkpoint=checkpoint), custom_hooks=list(hooks),
        randomness=dict(seed=1), experiment_name=f'monitored_{os.getpid()}_{next(_names)}', **kwargs)


def log_of(work_dir):
    """The log that the run wrote into its work directory."""
    return ''.join(open(path, encoding='utf-8').read() for path in sorted(glob.glob(f'{work_dir}/*/*.log')))
