"""Whatever bytes a file has, it is read or refused with our own error."""

from __future__ import annotations

import io
import json
import pickle
import struct

import foreign
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmckpt.errors import MMCkptError
from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.difference import differences
from mmckpt.files.outline import leaves, outline
from mmckpt.files.schedules import mapped_schedulers
from mmckpt.files.special import SparseRef
from mmckpt.files.values import ValueReader, index_fault, statistics

pytestmark = pytest.mark.filterwarnings('ignore:Sparse', 'ignore:torch.quantize')

FUZZ = settings(max_examples=150, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])


def look_at(path):
    """All that the commands do with a file."""
    try:
        content = open_file(path)
        parts = anatomy(content.tree)
        for line in leaves(outline(content.tree)):
            statistics(line.ref)
            if isinstance(line.ref, SparseRef):
                index_fault(line.ref)
        list(differences(content, content))
        ValueReader().tree(content.tree, {})
        assert parts.form
        to_mmengine(content)
    except MMCkptError:
        pass


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    """A directory of sound files of each kind."""
    directory = tmp_path_factory.mktemp('samples')
    foreign.system_b(directory / 'b.pth')
    foreign.mmcv(directory / 'm.pth')
    torch.save({'w': torch.ones(3), 'x': {1, 2}}, directory / 'old.pth', _use_new_zipfile_serialization=False)
    (directory / 'a.pkl').write_bytes(pickle.dumps({'w': [1, 2.5, 'x', b'y', {3: None}]}, protocol=4))
    torch.save({'coo': torch.eye(3).to_sparse(), 'csr': torch.eye(3).to_sparse_csr(), 'q': torch.quantize_per_channel(
        torch.eye(2), torch.ones(2), torch.zeros(2).long(), 0, torch.qint8)}, directory / 'sparse.pth')
    header = json.dumps({'w': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}).encode()
    (directory / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(8))
    return directory


# Structure lies at both ends; tensors, where a change does nothing, between them.
CHANGE = st.tuples(st.integers(0, 1500), st.booleans(), st.integers(0, 255))


@FUZZ
@given(which=st.integers(0, 5), changes=st.lists(CHANGE, min_size=1, max_size=4))
def test_a_sound_file_with_some_bytes_changed(samples, tmp_path, which, changes):
    content = bytearray(sorted(samples.iterdir())[which].read_bytes())
    for at, from_start, value in changes:
        at %= len(content)
        content[at if from_start else -at] = value
    (tmp_path / 'a.pth').write_bytes(content)
    look_at(tmp_path / 'a.pth')


@FUZZ
@example(pickled=b'(I1\nd.')
@example(pickled=b']u.')
@example(pickled=b'}]K\x01s.')
@example(pickled=b'0.')
@example(pickled=b'(2.')
@example(pickled=b'ctorch._utils\n_rebuild_tensor_v2\n(N(K\x01ttR.')
@example(pickled=b'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8tRU\x01xtR.')
@example(pickled=b'ccollections\nOrderedDict\n((KKKttR.')
@example(pickled=b'ctorch\nSize\n(NtR.')
@example(pickled=b'}(cos\nsystem\nK\x01u.')
@example(pickled=b'cnumpy.core.multiarray\n_reconstruct\n(N)U\x01btRN' + b'b.')
@given(pickled=st.lists(st.sampled_from([
    b'(', b']', b'}', b')', b'N', b'K\x01', b'U\x01x', b'l', b'd', b't', b's', b'u', b'a', b'e', b'R', b'b', b'0', b'1',
    b'2', b'q\x01', b'h\x01', b'\x85', b'\x86', b'\x81', b'\x91', b'\x90', b'\x8f', b'\x94', b'Q',
    b'cbuiltins\ngetattr\n',
    b'ctorch._utils\n_rebuild_tensor_v2\n', b'ctorch._utils\n_rebuild_parameter\n', b'cnumpy\ndtype\n', b'\x93',
    b'cnumpy.core.multiarray\n_reconstruct\n', b'ccollections\nOrderedDict\n', b'ctorch\nFloatStorage\n', b'I7\n',
    b'U\x07storageq\x05', b'G' + bytes(8), b'\x88', b'I-1\n', b'ctorch\nSize\n', b'cpathlib\nPosixPath\n',
    b'i\n\n', b'o',
    b'U\x0astate_dictq\x02', b'U\x05epochq\x03', b'U\x0ameta', b'U\x0dparam_groups'])).map(b''.join))
def test_operations_in_any_order(tmp_path, pickled):
    buffer = io.BytesIO()
    torch.save({}, buffer)
    (tmp_path / 'a.pth').write_bytes(b'\x80\x02' + pickled + b'.')
    look_at(tmp_path / 'a.pth')


@FUZZ
@given(header=st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10 ** 30) | st.floats() | st.sampled_from(['F32', 'w', 'I64', 'BF16']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['w', 'dtype', 'shape', 'data_offsets', '__metadata__']), inner, max_size=4), max_leaves=12))
def test_a_header_of_safetensors_of_any_form(tmp_path, header):
    text = json.dumps({'w': header} if not isinstance(header, dict) else header).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + bytes(64))
    look_at(tmp_path / 'a.safetensors')


CHECKPOINT = st.recursive(
    st.none() | st.integers(-2, 5) | st.floats(allow_nan=True) | st.text(max_size=3) | st.just(torch.ones(2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        'state_dict', 'model', 'meta', 'epoch', 'iter', 'optimizer', 'param_groups', 'state', 'params', 'message_hub',
        'runtime_info', 'best_score', 'mmcv_version', 'hook_msgs', 'pytorch-lightning_version', 'loops', 'callbacks',
        'EarlyStopping', 'optimizer_states', 'lr_schedulers', 'last_epoch', 'ema_state_dict', 'w', 'cfg', 'hooks',
        'mmckpt', 'best_pck', 'StochasticWeightAveraging', 'average_model_state', 'n_averaged', 'optimizers',
        'model_ema', 'wait_count', 'rng_state', 'step']), inner, max_size=6), max_leaves=20)


@FUZZ
@example(checkpoint={'pytorch-lightning_version': '2', 'state_dict': 'x'})
@example(checkpoint={'meta': {}, 'state_dict': {1: torch.ones(2)}})
@given(checkpoint=CHECKPOINT)
def test_checkpoints_whose_parts_are_not_what_their_names_say(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / 'a.pth')
    look_at(tmp_path / 'a.pth')


SCHEDULE = st.recursive(
    st.none() | st.integers(-2, 10 ** 13) | st.floats() | st.sampled_from(['lr', 'min', 'x']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        'last_epoch', '_last_lr', 'base_lrs', '_schedulers', '_milestones', 'step_size', 'gamma', 'milestones', 'T_max',
        'eta_min', 'start_factor', 'end_factor', 'total_iters', 'factor', 'power', 'T_0', 'T_i', 'T_mult', 'T_cur',
        'total_steps', '_schedule_phases', 'end_step', 'start_lr', 'end_lr', 'num_bad_epochs', 'mode', 3]),
        inner, max_size=6), max_leaves=25)


@FUZZ
@example(state={'T_0': 2, 'T_i': 2, 'T_mult': 1, 'T_cur': 'x', 'eta_min': 0, 'last_epoch': 1})
@example(state={'_schedulers': [{'gamma': 1, 'last_epoch': 0}] * 2, '_milestones': [3], 'last_epoch': 0})
@given(state=SCHEDULE)
def test_schedules_whose_parts_are_not_what_their_names_say(state):
    states, kept, lost = mapped_schedulers([state])
    assert len(kept) + len(lost) > 0 or not states


@pytest.mark.parametrize('optimizer', [
    {'param_groups': [{'params': [0]}]}, {'param_groups': [1], 'state': {}}, {'param_groups': [{}], 'state': {}},
    {'param_groups': [{'params': [[0]]}], 'state': {}}, {'param_groups': [{'params': [0]}], 'state': {0: [1]}},
    {'param_groups': [], 'state': {}}])
def test_an_optimizer_that_is_none_costs_only_itself(tmp_path, optimizer):
    torch.save({'model': {'w': torch.ones(1)}, 'optimizer': optimizer, 'epoch': 1, 'iter': 2}, tmp_path / 'a.pth')
    checkpoint = to_mmengine(open_file(tmp_path / 'a.pth')).checkpoint
    assert torch.equal(checkpoint['state_dict']['w'], torch.ones(1))
