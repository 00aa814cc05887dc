"""States and stores to test with."""

from __future__ import annotations

import logging

import pytest
import torch

from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore


def make_state(step: int) -> dict:
    """A checkpoint with MMEngine's keys, different for every step."""
    return {'meta': {'epoch': step, 'iter': 10 * step}, 'mmckpt': {'version': 1, 'val_pending': False},
            'state_dict': {'weight': torch.full((1000,), float(step))}}


@pytest.fixture
def state():
    return make_state


@pytest.fixture
def open_store(tmp_path, request):
    """Open stores on one directory; what a test leaves open is closed."""
    opened = []

    def open_one(resumed_from=None, directory=tmp_path / 'run', **kwargs):
        store = CheckpointStore(directory, pointer=directory / 'last_checkpoint', **kwargs)
        store.open(resumed_from=resumed_from)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close('exception', error=RuntimeError('the test is over'))


@pytest.fixture
def save():
    """Write the state of a step as a periodic checkpoint."""

    def save_one(store, step, **kwargs):
        kwargs.setdefault('roles', ('periodic',))
        progress = Progress(step, 10 * step)
        return store.write(f'epoch_{step}.pth', make_state(step), progress=progress, **kwargs)

    return save_one


@pytest.fixture
def said(caplog):
    """Everything that was logged so far, as one text."""
    caplog.set_level(logging.INFO, logger='mmckpt')
    return lambda: '\n'.join(record.getMessage() for record in caplog.records)
