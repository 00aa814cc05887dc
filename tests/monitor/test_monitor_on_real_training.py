"""The default detectors on real loss curves: planted faults are found, healthy runs stay silent."""

import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from mmckpt.monitor import NonFiniteDetector, SpikeDetector, TrainingMonitor
from mmckpt.progress import Progress

FAULT_ITER = 201


@functools.cache
def loss_curve(optimizer, lr, batch_size, fault=None, seed=0, iters=300):
    """Train a small conv net on handwritten digits; return the losses of each iteration."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                         nn.Dropout(0.2))
    classify, rebuild = nn.Linear(512, 10), nn.Linear(512, 64)
    parameters = [*body.parameters(), *classify.parameters(), *rebuild.parameters()]
    make = {'sgd': functools.partial(torch.optim.SGD, momentum=0.9), 'adamw': torch.optim.AdamW}[optimizer]
    step = make(parameters, lr=lr)
    curve = []
    while True:
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            batch = images[chosen] + 0.1 * torch.randn(len(chosen), 1, 8, 8)
            if len(curve) + 1 == FAULT_ITER:
                plant(fault, batch, step)
            features = body(batch)
            terms = dict(loss_cls=nn.functional.cross_entropy(classify(features), labels[chosen]),
                         loss_rebuild=nn.functional.mse_loss(rebuild(features), batch.flatten(1)))
            loss = sum(terms.values())
            step.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 35.0)
            step.step()
            curve.append({'loss': loss.item(), **{name: term.item() for name, term in terms.items()}})
            if len(curve) == iters:
                return curve


def plant(fault, batch, optimizer):
    if fault == 'lr x100':
        for group in optimizer.param_groups:
            group['lr'] *= 100
    elif fault == 'batch x100':
        batch *= 100
    elif fault == 'NaN pixel':
        batch[0, 0, 0, 0] = float('nan')


def events(curve):
    monitor = TrainingMonitor({'non_finite': NonFiniteDetector(), 'spike': SpikeDetector()})
    for step, values in enumerate(curve, 1):
        monitor.after_iter(values, Progress(0, step))
    return monitor.summary()['events']


SETTINGS = [('sgd', 0.01, 16), ('sgd', 0.05, 32), ('adamw', 1e-3, 4), ('adamw', 5e-3, 16)]


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_a_healthy_training_raises_no_finding(setting, seed):
    assert events(loss_curve(*setting, seed=seed)) == []


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
@pytest.mark.parametrize('fault, kind', [('lr x100', 'loss_spike'), ('batch x100', 'loss_spike'),
                                         ('NaN pixel', 'non_finite')])
def test_a_planted_fault_is_found_within_three_iterations(setting, fault, kind):
    found = events(loss_curve(*setting, fault=fault))
    assert found[0]['kind'] == kind
    assert FAULT_ITER <= found[0]['first_iter'] <= FAULT_ITER + 3


def test_a_nan_in_one_loss_names_that_term_and_its_iteration():
    (event,) = [e for e in events(loss_curve(*SETTINGS[0], fault='NaN pixel')) if e['kind'] == 'non_finite']
    assert event['first_iter'] == FAULT_ITER and event['subjects'][-1] == 'loss'
    # The batch normalisation keeps the NaN: every later iteration has it.
    assert event['count'] == 300 - FAULT_ITER + 1
