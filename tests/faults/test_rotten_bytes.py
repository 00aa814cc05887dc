"""Bytes that rot on the disk are found, whichever they are."""

from __future__ import annotations

import random

import pytest
import torch

from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore


@pytest.fixture
def saved(tmp_path):
    """A closed store with a small checkpoint, its path and its bytes."""
    store = CheckpointStore(tmp_path)
    store.open()
    store.write('epoch_1.pth', {'meta': {}, 'state_dict': {'w': torch.randn(5000)}}, progress=Progress(1, 1),
                roles=('periodic',))
    store.close('finished')
    path = tmp_path / 'epoch_1.pth'
    return CheckpointStore.read(tmp_path), path, path.read_bytes()


def test_a_flipped_bit_is_found_wherever_it_is(saved):
    view, path, data = saved
    record = view.find(path.name)
    assert view.verify(record) is None
    rng = random.Random(0)
    for at in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(198))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1:])
        assert 'its bytes have the digest' in view.verify(record), at
    path.write_bytes(data)
    assert view.verify(record) is None


def test_a_truncated_file_is_found_wherever_it_ends(saved):
    view, path, data = saved
    record = view.find(path.name)
    rng = random.Random(1)
    for size in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(48))]:
        path.write_bytes(data[:size])
        assert f'it has {size} bytes, but {len(data)} were written' == view.verify(record)
    # Lost blocks at the end, with the size still right.
    for size in (len(data) - 1, len(data) // 2, 0):
        path.write_bytes(data[:size] + b'\xff' * (len(data) - size))
        assert 'its bytes have the digest' in view.verify(record)
