"""Reading files that are missing, damaged, hostile or something else."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict

import pytest
import torch

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.store import load_checkpoint
from mmckpt.store.loader import archive_fault


class Hostile:
    def __reduce__(self):
        return os.system, ('touch "$HOSTILE_TARGET"',)


class NotAllowed:
    pass


@pytest.fixture
def path(tmp_path, state):
    torch.save(state(3), tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


@pytest.mark.parametrize('mmap', [False, True])
def test_a_checkpoint_is_read(path, state, mmap):
    loaded = load_checkpoint(str(path), mmap=mmap)
    assert torch.equal(loaded['state_dict']['weight'], state(3)['state_dict']['weight'])


def test_an_old_style_file_is_read_also_when_it_cannot_be_mapped(tmp_path):
    state = {'state_dict': {'w': torch.ones(3)}}
    torch.save(state, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / 'old.pth', mmap=True)['state_dict']['w'].sum() == 3


@pytest.mark.parametrize('name, message', [
    ('epoch_33.pth', r"no file .*epoch_33.pth. Did you mean 'epoch_3.pth'\? Available: "),
    ('', 'is a directory; pass a checkpoint file in it. .*Available: .epoch_3.pth'),
    ('deeper/epoch_3.pth', 'The directory .*deeper does not exist either'),
    ('epoch_3.pth/epoch_3.pth', 'no file'),
])
def test_a_missing_file_lists_what_is_there(path, name, message):
    with pytest.raises(CheckpointNotFoundError, match=message):
        load_checkpoint(path.parent / name)


def test_an_empty_directory_says_that_it_is_empty(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r'holds no \*.pth files'):
        load_checkpoint(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize('mmap', [False, True])
def test_a_truncated_file_is_corrupt_wherever_it_ends(path, mmap):
    data = path.read_bytes()
    for size in [0, 4, 100, len(data) // 2, len(data) - 100, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(CorruptCheckpointError, match=f'epoch_3.pth.*{size} bytes|epoch_3.pth'):
            load_checkpoint(path, mmap=mmap)


@pytest.mark.parametrize('content, message', [
    (b'hello, this is text', "expected a file of torch.save, found one that begins with b'hell'"),
    (pickle.dumps({'state_dict': {}}, protocol=4), 'not a checkpoint'),
    (b'\x00' * 100, 'not a checkpoint'),
])
def test_another_kind_of_file_is_no_checkpoint(tmp_path, content, message):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(IncompatibleCheckpointError, match=message):
        load_checkpoint(tmp_path / 'a.pth')


def test_of_a_file_that_was_cut_off_the_missing_end_is_named(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpointError, match=r'bytes\) cannot be read: its end is missing\. It is truncated'):
        load_checkpoint(path)


def test_another_zip_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(CorruptCheckpointError, match='cannot be read'):
        load_checkpoint(tmp_path / 'a.pth')


def test_a_bare_tensor_is_no_checkpoint(tmp_path):
    torch.save(torch.ones(3), tmp_path / 'a.pth')
    with pytest.raises(IncompatibleCheckpointError, match='a dict with a state_dict, found a Tensor'):
        load_checkpoint(tmp_path / 'a.pth')


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.setenv('HOSTILE_TARGET', str(tmp_path / 'executed'))
    torch.save({'state_dict': Hostile()}, tmp_path / 'a.pth')
    with pytest.raises(IncompatibleCheckpointError, match='an object of posix.system, .*without running'):
        load_checkpoint(tmp_path / 'a.pth')
    assert not (tmp_path / 'executed').exists()


def test_a_class_that_is_not_allowed_is_named_with_the_way_out(tmp_path):
    torch.save({'state_dict': {}, 'extra': NotAllowed()}, tmp_path / 'a.pth')
    name = f'{NotAllowed.__module__}.NotAllowed'
    with pytest.raises(IncompatibleCheckpointError, match=re.escape(f'add_safe_globals([{name}])')):
        load_checkpoint(tmp_path / 'a.pth')


class Claims:
    """Claims to be a tensor of another size than its storage."""

    def __init__(self, storage, size):
        self.storage, self.size = storage, size

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (self.storage, 0, (self.size,), (1,), False, OrderedDict())


@pytest.mark.parametrize('size', [5, 10 ** 7, 10 ** 11])
def test_a_declared_size_beyond_the_file_is_corrupt_and_allocates_nothing(tmp_path, size):
    storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32,
                                         _internal=True)
    torch.save({'state_dict': {'w': Claims(storage, size)}}, tmp_path / 'a.pth')
    with pytest.raises(CorruptCheckpointError, match='cannot be read'):
        load_checkpoint(tmp_path / 'a.pth')


def test_a_declared_storage_beyond_the_file_is_corrupt(path):
    with zipfile.ZipFile(path) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for info, data in entries:
            # The pickle says 1000 floats; make it say 2**31 - 1.
            if info.filename.endswith('data.pkl'):
                data = data.replace(b'M\xe8\x03', b'J\xff\xff\xff\x7f')
            archive.writestr(info.filename, data)
    with pytest.raises(CorruptCheckpointError, match='cannot be read'):
        load_checkpoint(path)


def test_the_checksums_of_the_archive_find_a_flipped_bit(path):
    assert archive_fault(path) is None
    data = bytearray(path.read_bytes())
    at = data.index(torch.full((4,), 3.0).numpy().tobytes()) + 2000
    data[at] ^= 4
    path.write_bytes(data)
    assert 'does not match its checksum' in archive_fault(path)
    path.write_bytes(data[:1000])
    assert 'not a whole zip archive' in archive_fault(path)
