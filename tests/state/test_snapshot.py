"""Staging copies: by value, each storage once, into buffers that stay."""

from __future__ import annotations

import io
import pickle
import threading
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmckpt.errors import SaveError
from mmckpt.state.snapshot import Snapshot
from mmckpt.store.tree import tensors_of


def saved_and_loaded(tree):
    file = io.BytesIO()
    torch.save(tree, file)
    file.seek(0)
    return torch.load(file, weights_only=False), file.getbuffer().nbytes


def training_state():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()

    def capture():
        return {'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict(),
                'rng': torch.get_rng_state(), 'meta': {'iter': 1, 'names': ('a', [1.5, None])}}

    return model, capture


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_a_copy_equals_its_source_and_shares_nothing_that_can_change():
    model, capture = training_state()
    snapshot = Snapshot()
    reference, _ = saved_and_loaded(capture())
    staged = snapshot(capture())
    for tensor in tensors_of(capture()):
        tensor.zero_()
    assert equal(saved_and_loaded(staged())[0], reference)


def test_buffers_are_reused_and_hold_the_new_values():
    model, capture = training_state()
    snapshot = Snapshot()
    before = [t.data_ptr() for t in tensors_of(snapshot(capture())())]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    again = snapshot(capture())()
    assert [t.data_ptr() for t in tensors_of(again)] == before
    assert equal(again['state_dict'], model.state_dict())


@pytest.mark.parametrize('change', [
    lambda tree: tree.update(extra=torch.ones(3)), lambda tree: tree.update(a=torch.ones(7)),
    lambda tree: tree.update(a=tree['a'].double()), lambda tree: tree.update(a=tree['a'].to_sparse()),
    lambda tree: tree.pop('a'), lambda tree: tree.update(b=tree['a']),
    lambda tree: tree.update(c=tree['b'].clone()),
    lambda tree: tree.update(a=torch.ones(1)), lambda tree: tree.update(d=tree['d'].t()),
])
def test_a_tree_of_another_shape_type_or_tie_gets_new_buffers(change):
    b = torch.arange(2.0)
    tree = {'a': torch.rand(2), 'b': b, 'c': b, 'd': torch.rand(3, 3)}
    snapshot = Snapshot()
    snapshot(tree)
    change(tree)
    staged = snapshot(tree)()
    assert list(staged) == list(tree)
    for key, tensor in tree.items():
        assert staged[key].dtype == tensor.dtype
        assert torch.equal(staged[key].to_dense(), tensor.to_dense()), key


def test_tied_weights_stay_tied_and_are_written_once():
    weight = torch.randn(1000)
    staged = Snapshot()({'embedding': weight, 'head': weight, 'again': weight.detach()})()
    loaded, size = saved_and_loaded(staged)
    assert size < 6000
    loaded['embedding'].zero_()
    assert loaded['head'].sum() == loaded['again'].sum() == 0


def test_a_small_view_of_a_big_storage_costs_what_it_holds():
    big = torch.randn(1_000_000)
    column = torch.randn(1000, 1000)[:, 3]
    views = {'head': big[:10], 'column': column, 'tail': big[-5:]}
    loaded, size = saved_and_loaded(Snapshot()(views)())
    assert size < 10_000 and equal(loaded, views)


def test_overlapping_views_go_on_overlapping_with_new_values():
    base = torch.arange(10.0)
    tree = {'left': base[:6], 'right': base[4:], 'odd': base[1:8:2]}
    snapshot = Snapshot()
    for step in range(2):
        base.add_(step)
        loaded, _ = saved_and_loaded(snapshot(tree)())
        assert equal(loaded, tree)
        loaded['left'][4] = -1.0
        assert loaded['right'][0] == -1.0


def test_views_that_no_longer_overlap_are_not_mixed_up():
    base = torch.arange(10.0)
    snapshot = Snapshot()
    snapshot({'left': base[:6], 'right': base[4:]})
    tree = {'left': torch.zeros(6), 'right': torch.ones(6)}
    assert equal(snapshot(tree)(), tree)
    moved = {'left': base[:6], 'right': base[2:8]}
    assert equal(snapshot(moved)(), moved)


@pytest.mark.parametrize('tensor', [
    torch.tensor(3), torch.empty(0), torch.rand(2, 3).t(),
    torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last), torch.ones(1).expand(5),
    torch.rand(3).bool(), torch.rand(3).bfloat16(), torch.rand(2, dtype=torch.cfloat),
    torch.rand(2, dtype=torch.cfloat).conj(), torch.rand(3).to_sparse(), torch.nn.Parameter(torch.rand(2)),
    torch.rand(2, requires_grad=True),
], ids=['scalar', 'empty', 'transposed', 'channels last', 'expanded', 'bool', 'bfloat16', 'complex',
        'conjugate', 'sparse', 'parameter', 'with gradient'])
def test_tensors_of_every_kind_come_through(tensor):
    for _ in range(2):
        loaded, _ = saved_and_loaded(Snapshot()([tensor])())
        copy = loaded[0]
        assert type(copy) is type(tensor) and copy.dtype == tensor.dtype
        assert copy.requires_grad == tensor.requires_grad
        assert torch.equal(copy.detach().to_dense(), tensor.detach().to_dense())


def test_values_that_are_no_tensors_are_as_they_were_at_the_call():
    history, array, numbers = HistoryBuffer([1.0], [1]), np.arange(3), {1, 2}
    staged = Snapshot()({'history': history, 'array': array, 'set': numbers, 'type': dict, 'f': len})
    history.update(2.0)
    array += 5
    numbers.add(3)
    loaded, _ = saved_and_loaded(staged())
    assert isinstance(loaded['history'], HistoryBuffer) and loaded['history'].data[0].tolist() == [1.0]
    assert loaded['array'].tolist() == [0, 1, 2] and loaded['set'] == {1, 2}
    assert loaded['type'] is dict and loaded['f'] is len


def test_containers_that_change_later_do_not_reach_the_copy():
    tree = OrderedDict(a=[1, {'b': 2}])
    tree._metadata = OrderedDict(version=1)
    staged = Snapshot()(tree)
    tree['a'][1]['b'] = 3
    tree['a'].append(4)
    tree._metadata['version'] = 2
    loaded, _ = saved_and_loaded(staged())
    assert loaded == OrderedDict(a=[1, {'b': 2}]) and loaded._metadata == {'version': 1}


def test_what_cannot_be_pickled_is_named_by_its_path():
    with pytest.raises(SaveError, match=r"state\['hooks'\]\[1\]\['lock'\] of the checkpoint"):
        Snapshot()({'hooks': [1, {'lock': threading.Lock()}]})


def test_a_pickled_value_pickles_as_itself_at_protocol_2():
    staged = Snapshot()([np.float64(1.5), bytearray(b'x'), range(3)])()
    assert pickle.loads(pickle.dumps(staged, protocol=2)) == [1.5, bytearray(b'x'), range(3)]
