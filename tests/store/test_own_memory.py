"""Reading a checkpoint through a memory map that nothing keeps afterwards."""

import os

import pytest
import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.store.own_memory import in_own_memory, read_checkpoint


def save(path, **state):
    torch.save(state, path)
    return path


def mapped(path):
    """Whether any memory of this process is still tied to a file."""
    with open('/proc/self/maps') as maps:
        return any(line.rstrip().endswith(str(path)) for line in maps)


def trees():
    weight = torch.randn(5, 3)
    base = torch.arange(12.)
    return {
        'dtypes': [torch.ones(3, dtype=dtype) for dtype in (torch.bool, torch.uint8, torch.float16, torch.bfloat16,
                                                            torch.int64, torch.float64, torch.complex64)],
        'empty and scalar': (torch.empty(0, 4), torch.tensor(3.5), torch.empty(0)),
        'strided': {'t': weight.t(), 'column': weight[:, 1]},
        'views of one storage': [base[2:5], base[4:9].view(5), base],
        'parameter': torch.nn.Parameter(torch.ones(2)),
        'sparse': torch.eye(3).to_sparse(),
        'others': {'epoch': 3, 'names': ['a'], 'none': None},
    }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if not isinstance(a, torch.Tensor):
        return a == b
    layout = a.dtype == b.dtype and a.layout == b.layout and a.requires_grad == b.requires_grad
    if a.layout != torch.strided:
        return layout and torch.equal(a.to_dense(), b.to_dense())
    return layout and a.stride() == b.stride() and torch.equal(a, b)


@pytest.mark.parametrize('name', trees())
def test_reads_what_torch_load_reads(tmp_path, name):
    path = save(tmp_path / 'a.pth', part=trees()[name])
    assert same(read_checkpoint(path)['part'], torch.load(path, weights_only=True)['part'])


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs /proc')
def test_nothing_stays_tied_to_the_file(tmp_path):
    path = save(tmp_path / 'a.pth', **trees(), big=torch.randn(1000, 1000))
    held = torch.load(path, weights_only=True, mmap=True)
    assert mapped(path), 'the test must be able to see a mapping'
    del held
    checkpoint = read_checkpoint(path)
    assert not mapped(path)
    expected = torch.load(path, weights_only=True)['big']
    os.truncate(path, 10)
    assert torch.equal(checkpoint['big'], expected)


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs /proc')
def test_chosen_parts_stay_mapped_until_they_are_dropped(tmp_path):
    path = save(tmp_path / 'a.pth', weights=torch.randn(1000, 1000), moments=torch.randn(1000, 1000))
    checkpoint = read_checkpoint(path, mapped=['weights'])
    assert mapped(path)
    del checkpoint['weights']
    assert not mapped(path)


def test_what_shared_memory_still_does(tmp_path):
    weight = torch.zeros(4)
    part = read_checkpoint(save(tmp_path / 'a.pth', part=[weight, weight, weight[1:3]]))['part']
    part[0].fill_(1)
    assert part[1].tolist() == [1] * 4 and part[2].tolist() == [1, 1]


def test_tensors_that_shared_nothing_can_be_saved_alone(tmp_path):
    first, second = read_checkpoint(save(tmp_path / 'a.pth', part=[torch.zeros(1000), torch.ones(1000)]))['part']
    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata
    torch.save(second, tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').stat().st_size < 6000


def test_copies_do_not_follow_their_originals():
    tree = {'plain': torch.zeros(3), 'parameter': torch.nn.Parameter(torch.zeros(3))}
    copied = in_own_memory(tree)
    with torch.no_grad():
        tree['plain'].fill_(1), tree['parameter'].fill_(1)
    assert copied['plain'].sum() == 0 and copied['parameter'].sum() == 0
    assert copied['parameter'].requires_grad


def test_truncated_file_is_an_error(tmp_path):
    path = save(tmp_path / 'a.pth', part=torch.randn(10000))
    os.truncate(path, 20000)
    with pytest.raises(CorruptCheckpointError):
        read_checkpoint(path)
