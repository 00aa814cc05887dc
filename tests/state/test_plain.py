from __future__ import annotations

import collections
import datetime
import enum
import json
import math
import struct
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmckpt.state.plain import from_json, to_json, to_plain


class Colour(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


class Opaque:
    pass


class Described:
    def __repr__(self):
        return 'Described(3)'


Point = collections.namedtuple('Point', 'x y')

PLAIN = [
    (None, None), (True, True), (3, 3), (2**70, 2**70), (0.1, 0.1), ('a', 'a'), (b'a', b'a'),
    ([1, (2,)], [1, (2,)]),
    (ConfigDict(a=dict(b=[1])), {'a': {'b': [1]}}),
    (collections.OrderedDict(a=1), {'a': 1}),
    (collections.defaultdict(list, a=[1]), {'a': [1]}),
    (collections.Counter('aab'), {'a': 2, 'b': 1}),
    (types.MappingProxyType({'a': 1}), {'a': 1}),
    ({1: 'a', None: 'b', (1, 2): 'c', Colour.RED: 'd', np.int64(4): 'e', Path('x'): 'f'},
     {1: 'a', None: 'b', (1, 2): 'c', 'red': 'd', 4: 'e', 'x': 'f'}),
    (Point(1, 2), (1, 2)),
    (collections.deque([1, 2]), [1, 2]),
    (range(3), [0, 1, 2]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({'b', 'a'}), ['a', 'b']),
    (torch.Size([1, 2]), (1, 2)),
    (Colour.RED, 'red'), (Level.HIGH, 3), (Name('n'), 'n'),
    (bytearray(b'ab'), b'ab'), (memoryview(b'ab'), b'ab'),
    (np.float32(0.5), 0.5), (np.float64(0.1), 0.1), (np.int64(3), 3), (np.uint8(3), 3),
    (np.bool_(True), True), (np.str_('s'), 's'), (np.bytes_(b's'), b's'),
    (np.datetime64('2024-01-02'), '2024-01-02'), (np.timedelta64(3, 's'), '3 seconds'),
    (Path('data') / 'coco', 'data/coco'),
    (datetime.datetime(2024, 1, 2, 3, 4, 5), '2024-01-02T03:04:05'),
    (datetime.date(2024, 1, 2), '2024-01-02'),
    (torch.float16, 'torch.float16'), (torch.device('cuda:1'), 'cuda:1'),
    (1 + 2j, '(1+2j)'),
    (np.array(['a', 'b']), ['a', 'b']), (np.array([1, None], dtype=object), [1, None]),
    (np.array([(1, 2.5)], dtype=[('a', 'i4'), ('b', 'f4')]), [(1, 2.5)]),
    (np.ma.masked_array([1, 2], mask=[False, True]), [1, None]),
    (Opaque, f'{__name__}.Opaque'), (math.sqrt, 'math.sqrt'), (len, 'builtins.len'),
    (Opaque(), f'<{__name__}.Opaque>'), (Described(), 'Described(3)'),
]


def alike(a, b) -> bool:
    """Equal in value and in type, at every depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return [*a] == [*b] and all(alike(x, y) for x, y in zip(a, b)) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b))
    if isinstance(a, float):
        return struct.pack('d', a) == struct.pack('d', b)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and alike(to_json(a), to_json(b))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


@pytest.mark.parametrize('value, expected', PLAIN, ids=lambda v: type(v).__name__)
def test_a_value_becomes_plain_and_the_file_loads_safely(tmp_path, value, expected):
    plain = to_plain({'deep': [value]})
    assert alike(plain, {'deep': [expected]})
    torch.save(plain, tmp_path / 'a.pth')
    assert alike(torch.load(tmp_path / 'a.pth', weights_only=True), plain)


def test_tensors_arrays_and_histories_stay_and_are_not_copied(tmp_path):
    class Boxes(torch.Tensor):
        pass

    class Subclass(np.ndarray):
        pass

    history = HistoryBuffer([1.0], [1])
    array, parameter = np.arange(3.0), torch.nn.Parameter(torch.ones(2))
    value = dict(history=history, array=array, record=np.zeros(2).view(Subclass), parameter=parameter,
                 boxes=torch.zeros(2).as_subclass(Boxes), grad=(parameter * 2))
    plain = to_plain(value)
    assert plain['history'] is history and plain['array'] is array
    assert plain['parameter'].data_ptr() == parameter.data_ptr()
    assert [type(v) for v in plain.values()] == [HistoryBuffer, np.ndarray, np.ndarray] + [torch.Tensor] * 3
    torch.save(plain, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    history = loaded.pop('history')
    plain.pop('history')
    assert type(history) is HistoryBuffer and history.mean() == 1.0
    assert alike(loaded, plain)


def test_the_input_is_not_changed():
    value = ConfigDict(a=[Path('x')], b=dict(c={1}))
    to_plain(value)
    assert value == ConfigDict(a=[Path('x')], b=dict(c={1})) and isinstance(value.b, ConfigDict)


def test_a_memory_mapped_array_becomes_one_that_needs_no_file(tmp_path):
    np.save(tmp_path / 'a.npy', np.arange(4))
    plain = to_plain(np.load(tmp_path / 'a.npy', mmap_mode='r'))
    torch.save(plain, tmp_path / 'a.pth')
    assert type(plain) is np.ndarray
    assert torch.load(tmp_path / 'a.pth', weights_only=True).tolist() == [0, 1, 2, 3]


def through_json(value):
    return from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))


EXACT = [
    None, True, 0, -2**80, 0.1, -0.0, 5e-324, math.inf, -math.inf, math.nan,
    struct.unpack('<d', b'\x01\x00\x00\x00\x00\x00\xf8\xff')[0],
    '', '$tuple', 'ü\ud800', b'', bytes(range(256)), (), (1, [2, (3,)]), [], {}, {'a': {'b': ()}},
    {'$tuple': [1]}, {'$unknown': 1},
    {1: 'a', '1': 'b', None: 'c', (1, 2): 'd', 0.5: 'e', b'x': 'f', False: 'g'},
    np.float32(0.1), np.float64(math.nan), np.int8(-3), np.bool_(False), np.complex64(1 + 2j),
    np.str_('a'), np.str_(''), np.datetime64('2024-01-02T03'),
    np.arange(6, dtype='>i2').reshape(2, 3), np.zeros((0, 3)), np.array(1.5), np.array(['a', 'bc']),
    np.arange(6.0).reshape(2, 3).T, np.array([math.nan, -0.0, math.inf], dtype=np.float16),
    torch.tensor(0.1), torch.tensor(True), torch.zeros(0, 2), torch.arange(6).reshape(2, 3).T,
    torch.tensor([1.5, math.nan, -0.0], dtype=torch.bfloat16), torch.tensor([1 + 2j]).conj(),
    torch.tensor([1, 2], dtype=torch.uint8), torch.randn(3, dtype=torch.float64),
]


@pytest.mark.parametrize('value', EXACT, ids=lambda v: type(v).__name__)
def test_json_gives_the_value_back_to_the_bit(value):
    assert alike(through_json(value), value)
    assert alike(through_json({'nested': [value]}), {'nested': [value]})


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
keys = st.text() | st.integers() | st.none() | st.binary() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    leaves, lambda t: st.lists(t) | st.lists(t).map(tuple) | st.dictionaries(keys, t), max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_json_gives_every_plain_tree_back_to_the_bit(value):
    assert alike(through_json(value), value)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_a_plain_tree_is_left_as_it_is(value):
    assert alike(to_plain(value), value)


def test_what_comes_back_can_be_written_to():
    array, tensor = through_json([np.zeros(2), torch.zeros(2)])
    array[0] = tensor[0] = 1.0
    assert array.tolist() == tensor.tolist() == [1.0, 0.0]


@pytest.mark.parametrize('value', [
    {1, 2}, Opaque(), Path('x'), Point(1, 2), ConfigDict(a=1), collections.OrderedDict(a=1), Level.HIGH,
    Name('a'), 1j, np.array([None]), np.void(b'x'), torch.nn.Parameter(torch.ones(1)),
    torch.eye(2).to_sparse(),
], ids=lambda v: type(v).__name__)
def test_json_refuses_what_it_could_not_give_back(value):
    with pytest.raises(ValueError, match='Expected .* but got'):
        to_json({'a': [value]})


def test_json_of_a_newer_version_is_refused():
    with pytest.raises(ValueError, match=r"but got '\$quantum'.*newer version"):
        from_json({'$quantum': 1})
