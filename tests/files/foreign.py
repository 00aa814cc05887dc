"""Files of other kinds, written by the real libraries or as the systems that they stand for wrote them."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn


def net(width=8, outputs=1):
    """The model that all of these files hold."""
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, outputs))


def data():
    """Batches, always the same."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 4, generator=generator)
    return list(zip(inputs.split(4), inputs.sum(1, keepdim=True).split(4)))


def loader():
    """The same batches from a loader."""
    inputs, targets = (torch.cat(part) for part in zip(*data()))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=4)


def lightning():
    """The library, or a skipped test; its import warns about torch."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return pytest.importorskip('lightning')


def lightning_module(**hyper_parameters):
    """A LightningModule with the model as ``net``."""
    module = lightning().LightningModule

    class Lit(module):
        def __init__(self, width=8, num_items=1):
            super().__init__()
            self.save_hyperparameters()
            self.net = net(width, num_items)

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, index):
            return (self(batch[0]) - batch[1]).square().mean()

        def validation_step(self, batch, index):
            self.log('val_loss', (self(batch[0]) - batch[1]).square().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), 1e-2)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]

    return Lit(**hyper_parameters)


def fit_lightning(directory, epochs=3, ckpt_path=None, module=None, callbacks=(), **kwargs):
    """Train with Lightning; return module and trainer. It leaves ``last.ckpt``."""
    library = lightning()
    callbacks = [library.pytorch.callbacks.ModelCheckpoint(directory, monitor='val_loss', save_last=True),
                 library.pytorch.callbacks.EarlyStopping('val_loss', patience=3), *callbacks]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.manual_seed(1)
        module = module or lightning_module()
        trainer = library.Trainer(
            max_epochs=epochs, accelerator='cpu', logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=callbacks, **kwargs)
        trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return module, trainer


def trained(optimizer_class=torch.optim.Adam, epochs=3, step_size=2):
    """Train by hand; return model, optimizer and scheduler."""
    torch.manual_seed(1)
    model = net()
    optimizer = optimizer_class(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size, 0.5)
    for _ in range(epochs):
        for inputs, target in data():
            optimizer.zero_grad()
            (model(inputs) - target).square().mean().backward()
            optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def system_b(path):
    """What the category-agnostic pose training wrote: everything in one dict, wrapped by DDP."""
    import argparse
    import random

    import numpy as np

    model, optimizer, scheduler = trained()
    torch.save({
        'epoch': 2, 'model': {f'module.{k}': v for k, v in model.state_dict().items()},
        'optimizer': optimizer.state_dict(), 'lr_scheduler': scheduler.state_dict(),
        'args': argparse.Namespace(lr=0.01, width=8), 'best_pck': 0.8123, 'best_val_loss': np.float64(0.1234),
        'epochs_without_improvement': 2, 'train_stats': {'loss': [1.0, 0.5]},
        'rng_state': torch.get_rng_state(), 'numpy_rng_state': np.random.get_state(),
        'python_rng_state': random.getstate()}, path)
    return model, optimizer


def system_e(path):
    """What the depth training wrote."""
    model, optimizer, _ = trained(torch.optim.SGD)
    torch.save({'epoch': 3, 'model_state_dict': model.state_dict(),
                'optimizer_state_dict': optimizer.state_dict(), 'loss': 0.5}, path)
    return model, optimizer


def mmcv(path):
    """What mmcv 1.x wrote."""
    model, optimizer, _ = trained()
    torch.save({
        'meta': {'epoch': 3, 'iter': 18, 'mmcv_version': '1.7.1', 'time': 'Tue Nov 24 10:00:00 2026',
                 'config': "model = dict(type='Net')\nimport os\nos.system('touch executed')\n",
                 'CLASSES': ('cat', 'dog'),
                 'hook_msgs': {'last_ckpt': '/runs/epoch_3.pth', 'best_score': 0.71,
                               'best_ckpt': '/runs/best_bbox_mAP_epoch_2.pth'}},
        'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict()}, path)
    return model, optimizer


def sharded(directory):
    """A directory of ``torch.distributed.checkpoint``."""
    import torch.distributed.checkpoint as dcp

    model, optimizer, _ = trained()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        dcp.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'epoch': 3, 'iteration': 18},
                 checkpoint_id=directory)
    return model


def sharded_by_two(directory):
    """The same written by two processes, each of which has half of the rows of a weight; return the weight."""
    code = '''
import os, sys, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from mmckpt.hooks.runner_adapter import leave_group
rank, directory = int(sys.argv[1]), sys.argv[2]
dist.init_process_group('gloo', init_method=f'file://{directory}.store', rank=rank, world_size=2)
weight = distribute_tensor(torch.arange(30.).view(10, 3), init_device_mesh('cpu', (2,)), [Shard(0)])
dcp.save({'model': {'weight': weight, 'bias': torch.ones(2)}, 'epoch': 4}, checkpoint_id=directory)
dist.barrier()
leave_group()
# torch 2.13 aborts now and then when an interpreter ends after gloo.
os._exit(0)
'''
    processes = [subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, str(rank), str(directory)])
                 for rank in range(2)]
    assert [process.wait(100) for process in processes] == [0, 0]
    return torch.arange(30.).view(10, 3)


class Unknown:
    """A class that no loader of checkpoints knows."""

    def __init__(self):
        self.lr = 0.01
