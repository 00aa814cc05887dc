"""The structure of a remote file, which comes without its tensors."""

from __future__ import annotations

import pytest
import torch

from mmckpt.errors import CorruptCheckpointError, RemoteError
from mmckpt.progress import Progress
from mmckpt.store import load_checkpoint
from mmckpt.store.remote import RemoteDirectory
from mmckpt.store.remote_outline import fetch_outline


@pytest.fixture
def big(open_store):
    """A store with a file of 20 tensors, 8 MB, of which two share their bytes."""
    store = open_store()
    weights = {f'layer{i}.weight': torch.full((320, 320), float(i)) for i in range(20)}
    state = {'meta': {'epoch': 3, 'note': 'plain'}, 'state_dict': {**weights, 'tied': weights['layer0.weight'][1:3]}}
    assert store.write('epoch_3.pth', state, progress=Progress(3, 30), roles=('periodic',))
    return store


def test_names_shapes_and_plain_values_come_and_few_bytes(big, tmp_path):
    record = big.find('epoch_3.pth')
    remote = RemoteDirectory(f'file://{big.directory}')
    travelled = fetch_outline(remote, record, tmp_path / 'outline.pth')
    assert travelled < record.size / 50
    outline, file = (load_checkpoint(path, mmap=True) for path in (tmp_path / 'outline.pth',
                                                                   big.directory / 'epoch_3.pth'))
    assert outline['meta'] == file['meta'] and list(outline['state_dict']) == list(file['state_dict'])
    for name, tensor in file['state_dict'].items():
        other = outline['state_dict'][name]
        assert (other.shape, other.dtype, other.stride()) == (tensor.shape, tensor.dtype, tensor.stride())
    assert (tmp_path / 'outline.pth').stat().st_blocks * 512 < record.size / 4, 'the file is sparse'


def test_what_is_no_archive_is_named(big, tmp_path):
    record = big.find('epoch_3.pth')
    (big.directory / 'epoch_3.pth').write_bytes(b'\0' * record.size)
    with pytest.raises(CorruptCheckpointError, match='epoch_3.pth is not a whole checkpoint'):
        fetch_outline(RemoteDirectory(f'file://{big.directory}'), record, tmp_path / 'outline.pth')


def test_a_storage_that_does_not_answer_is_named(big, tmp_path):
    record = big.find('epoch_3.pth')
    with pytest.raises(RemoteError, match='cannot be read'):
        fetch_outline(RemoteDirectory(f'file://{big.directory}/nowhere'), record, tmp_path / 'outline.pth')
