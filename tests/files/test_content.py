"""Every kind of file is read as what it is, values included, without its own library."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, IncompatibleCheckpointError
from mmckpt.files import ArrayRef, Opaque, TensorRef, open_file
from mmckpt.files.anatomy import Best, anatomy, number
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.values import Statistics, ValueReader, statistics
from mmckpt.state.sharded import save_sharded

# Kinds of tensors that torch calls a beta, or old; files have them all the same.
pytestmark = pytest.mark.filterwarnings('ignore:Sparse', 'ignore:torch.quantize')

BASE = torch.arange(24.)
TENSORS = {
    'plain': BASE[:6].clone(), 'view': BASE[4:10], 'strided': BASE.view(4, 6).t(), 'scalar': torch.tensor(3.5),
    'empty': torch.zeros(0, 3), 'half': torch.ones(3, dtype=torch.float16), 'brain': torch.ones(3).bfloat16(),
    'int': torch.arange(5), 'bool': torch.tensor([True, False]), 'complex': torch.ones(2, dtype=torch.complex64),
    'float8': torch.ones(4).to(torch.float8_e4m3fn), 'parameter': torch.nn.Parameter(torch.ones(2, 2))}


@pytest.mark.parametrize('new', [True, False])
def test_tensors_of_every_kind_come_back_to_the_bit(tmp_path, new):
    torch.save({'state_dict': OrderedDict(TENSORS)}, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    content = open_file(tmp_path / 'a.pth')
    assert content.container == ('torch file' if new else 'old torch file') and not content.classes
    read = ValueReader().tree(content.tree)['state_dict']
    for name, tensor in TENSORS.items():
        ref = content.tree['state_dict'][name]
        assert ref.fault is None and ref.shape == tensor.shape and ref.nbytes == tensor.numel() * tensor.element_size()
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name].view(torch.uint8) if name == 'float8' else read[name],
                           tensor.detach().view(torch.uint8) if name == 'float8' else tensor.detach()), name


DENSE = torch.tensor([[0, 2.5, 0, 0], [0, 0, 0, -1], [0, 0, 0, 0], [3, 0, float('nan'), 0]])


def sparse():
    return {'coo': DENSE.to_sparse(), 'csr': DENSE.to_sparse_csr(), 'csc': DENSE.to_sparse_csc(),
            'bsr': DENSE.to_sparse_bsr((2, 2)), 'bsc': DENSE.to_sparse_bsc((2, 2)),
            'none': torch.zeros(3, 2).to_sparse(), 'rows': DENSE.to_sparse(1),
            'twice': torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.ones(2), (10 ** 12,))}


@pytest.mark.parametrize('new', [True, False])
def test_sparse_tensors_come_back_to_the_bit(tmp_path, new):
    tensors = sparse()
    torch.save({'state_dict': tensors}, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    content = open_file(tmp_path / 'a.pth')
    lost = {}
    read = ValueReader().tree(content.tree, lost)['state_dict']
    assert not lost and not content.classes
    for name, tensor in tensors.items():
        found = read[name]
        assert found.layout == tensor.layout and found.shape == tensor.shape and found.dtype == tensor.dtype
        if name == 'twice':
            assert not found.is_coalesced() and found._values().tolist() == [1, 1]
        else:
            assert torch.equal(found.to_dense().nan_to_num(7), tensor.to_dense().nan_to_num(7)), name
    known = statistics(content.tree['state_dict']['csr'])
    assert (known.nan, known.low, known.high) == (1, -1, 3)


def quantized():
    return {'whole': torch.quantize_per_tensor(torch.arange(-2., 4), 0.5, 2, torch.quint8),
            'rows': torch.quantize_per_channel(torch.arange(12.).view(3, 4), torch.tensor([.5, .25, 1]),
                                               torch.tensor([0, 1, -3]), 0, torch.qint8),
            'columns': torch.quantize_per_channel(torch.arange(6.).view(3, 2), torch.tensor([.5, .25]),
                                                  torch.tensor([0, 1]), 1, torch.qint8),
            'wide': torch.quantize_per_tensor(torch.tensor([1000., -7]), 0.25, 0, torch.qint32)}


@pytest.mark.parametrize('new', [True, False])
def test_quantized_tensors_come_back_to_the_bit(tmp_path, new):
    tensors = quantized()
    torch.save({'state_dict': tensors}, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    content = open_file(tmp_path / 'a.pth')
    read = ValueReader().tree(content.tree)['state_dict']
    for name, tensor in tensors.items():
        assert read[name].equal(tensor) and read[name].qscheme() == tensor.qscheme(), name
        known, real = statistics(content.tree['state_dict'][name]), tensor.dequantize()
        assert (known.low, known.high, known.mean) == (real.min(), real.max(), pytest.approx(float(real.mean())))


def big_endian(source, target):
    """Write a file of torch as a processor of the other kind would."""
    widths = {key: tensor.untyped_storage().nbytes() and tensor.element_size() // (2 if tensor.is_complex() else 1)
              for key, tensor in zip(map(str, range(99)), torch.load(source, weights_only=True).values())}
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, 'w') as written:
        for name in read.namelist():
            data, key = read.read(name), name.rpartition('/')[2]
            if '/data/' in name and widths[key]:
                data = np.frombuffer(data, np.uint8).reshape(-1, widths[key])[:, ::-1].tobytes()
            written.writestr(name, b'big' if key == 'byteorder' else data)


def test_big_endian_files_are_read_as_torch_reads_them(tmp_path):
    names = ('plain', 'scalar', 'half', 'brain', 'int', 'bool', 'complex', 'float8')
    torch.save({name: TENSORS[name].clone() for name in names}, tmp_path / 'little.pth')
    big_endian(tmp_path / 'little.pth', tmp_path / 'a.pth')
    content, real = open_file(tmp_path / 'a.pth'), torch.load(tmp_path / 'a.pth', weights_only=True)
    read = ValueReader().tree(content.tree)
    assert 'big-endian' in content.notes[0] and statistics(content.tree['plain']).high == 5
    for name in names:
        for found in (read[name], real[name]):
            assert torch.equal(found.float() if name == 'float8' else found,
                               TENSORS[name].float() if name == 'float8' else TENSORS[name]), name


def test_a_sparse_tensor_whose_indices_lie_outside_is_lost_and_named(tmp_path):
    good = sparse()['coo'].coalesce()
    for bad in (good.indices() + 4, good.indices() - 4):
        torch.save({'w': torch.sparse_coo_tensor(bad, good.values(), good.shape, check_invariants=False)},
                   tmp_path / 'a.pth')
        lost = {}
        assert ValueReader().tree(open_file(tmp_path / 'a.pth').tree, lost) == {'w': None}
        assert 'a sparse tensor of shape (4, 4) is broken' in lost['w'] and 'ind' in lost['w']


def test_what_shares_memory_in_the_file_shares_it_afterwards(tmp_path):
    torch.save([BASE, BASE[4:10]], tmp_path / 'a.pth')
    whole, part = ValueReader().tree(open_file(tmp_path / 'a.pth').tree)
    whole[4] = -1
    assert part[0] == -1


@pytest.mark.parametrize('protocol', range(2, 6))
def test_plain_values_are_read_with_every_protocol(tmp_path, protocol):
    value = {'text': 'ü\u2603', 'long': 2 ** 70, 'negative': -3, 'float': 1.5, 'none': None, 'bytes': b'\x00\xff',
             'tuple': (1, (2,), [], {}), 'many': list(range(300)), 'path': Path('data/coco'), 5: True, ('a', 1): False,
             'long text': 'x' * 300, 'array': np.arange(6.).reshape(2, 3), 'number': np.float32(0.25)}
    torch.save(value, tmp_path / 'a.pth', pickle_protocol=protocol)
    lost = {}
    read = ValueReader().tree(open_file(tmp_path / 'a.pth').tree, lost)
    np.testing.assert_array_equal(read.pop('array'), value.pop('array'), strict=True)
    assert read == {**value, 'path': 'data/coco'} and not lost


def test_objects_of_other_classes_are_names_with_their_state(tmp_path):
    torch.save({'history': HistoryBuffer([1.0], [1]), 'set': {1, 2}, 'odd': pickle.PickleBuffer}, tmp_path / 'a.pth')
    content = open_file(tmp_path / 'a.pth')
    history = content.tree['history']
    assert isinstance(history, Opaque) and history.name == 'mmengine.logging.history_buffer.HistoryBuffer'
    assert isinstance(history.state['_log_history'], ArrayRef) and list(content.classes) == [history.name]
    assert not content.dangerous


@pytest.mark.parametrize('keep', [0, 4, 40, 0.5, 0.98])
def test_a_truncated_file_is_an_error_or_has_tensors_with_a_fault(tmp_path, keep):
    torch.save({'state_dict': {'w': torch.ones(1000)}}, tmp_path / 'a.pth', _use_new_zipfile_serialization=keep != 0.98)
    data = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(data[:int(keep if keep > 1 else keep * len(data))])
    if keep == 0.98:
        # The names come first in old files, so that they are still known.
        ref = open_file(tmp_path / 'a.pth').tree['state_dict']['w']
        assert isinstance(ref, TensorRef) and 'no bytes' in ref.fault
        return
    with pytest.raises((CorruptCheckpointError, IncompatibleCheckpointError), match='a.pth'):
        open_file(tmp_path / 'a.pth')


@pytest.mark.parametrize('method', [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_packed_pickle_is_read_if_that_can_be_done_in_little_memory(tmp_path, method):
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w', method) as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({'epoch': 3}, 2))
    if method == zipfile.ZIP_DEFLATED:
        assert open_file(tmp_path / 'a.pth').tree == {'epoch': 3}
        return
    with pytest.raises(CorruptCheckpointError, match='is packed by method'):
        open_file(tmp_path / 'a.pth')


@pytest.mark.parametrize('content, said', [(b'hello world', 'it is no checkpoint'), (b'PK\x03\x04', 'zip archive')])
def test_another_file_is_an_error_that_says_what_it_is(tmp_path, content, said):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises((CorruptCheckpointError, IncompatibleCheckpointError), match=said):
        open_file(tmp_path / 'a.pth')
    with pytest.raises(CheckpointNotFoundError, match="Did you mean 'a.pth'"):
        open_file(tmp_path / 'b.pth')
    with pytest.raises(CheckpointNotFoundError, match='no sharded checkpoint'):
        open_file(tmp_path)


def test_a_sharded_checkpoint_is_read_without_a_process_group(tmp_path):
    model = foreign.sharded(tmp_path / 'step_3')
    content = open_file(tmp_path / 'step_3')
    assert content.container == 'sharded checkpoint' and not content.dangerous and not content.notes
    found = anatomy(content.tree)
    assert (found.form, found.epoch, found.iter, found.weights_at) == ('hand-written', 3, 18, 'model')
    read = ValueReader().tree(content.tree)
    assert all(torch.equal(read['model'][k], v) for k, v in model.state_dict().items())
    assert found.optimizers[0]['param_groups'][0]['lr'] == 0.005


def test_pieces_of_two_processes_are_put_together(tmp_path):
    weight = foreign.sharded_by_two(tmp_path / 'step_4')
    tree = open_file(tmp_path / 'step_4').tree
    assert tree['model']['weight'].kind == 'tensor in 2 pieces' and tree['epoch'] == 4
    assert torch.equal(ValueReader().tensor(tree['model']['weight']), weight)
    assert statistics(tree['model']['weight']) == Statistics(0, 0, False, 0.0, 29.0, 14.5)
    next((tmp_path / 'step_4').glob('__1*')).unlink()
    content = open_file(tmp_path / 'step_4')
    assert 'pieces have 15 elements of 30' in content.tree['model']['weight'].fault and 'is missing' in content.notes[0]


def test_what_our_sharded_state_wrote_becomes_an_ordinary_checkpoint(tmp_path):
    model, optimizer, _ = foreign.trained()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        save_sharded(tmp_path / 'step', model, optimizer, dict(epoch=3, iter=18)).wait()
    converted = to_mmengine(open_file(tmp_path / 'step'))
    checkpoint, expected = converted.checkpoint, optimizer.state_dict()
    assert not converted.lost and checkpoint['meta']['epoch'] == 3 and checkpoint['meta']['iter'] == 18
    assert all(torch.equal(checkpoint['state_dict'][k], v) for k, v in model.state_dict().items())
    assert checkpoint['optimizer']['param_groups'][0]['params'] == expected['param_groups'][0]['params']
    for i, moments in expected['state'].items():
        assert all(torch.equal(checkpoint['optimizer']['state'][i][k], v) for k, v in moments.items())


def test_statistics_find_nan_infinity_and_zeros(tmp_path):
    bad = torch.tensor([float('nan'), float('inf'), 1.0, -3.0])
    torch.save({'bad': bad, 'zero': torch.zeros(3), 'ints': torch.arange(4), 'big': torch.ones(5_000_000).half(),
                'array': np.array([1.0, np.nan]), 'column': torch.arange(6.).view(3, 2)[:, 1]}, tmp_path / 'a.pth')
    tree = open_file(tmp_path / 'a.pth').tree
    assert statistics(tree['bad']) == Statistics(1, 1, False, -3.0, 1.0, -1.0)
    assert statistics(tree['zero']).zero and statistics(tree['ints']).mean == 1.5
    assert statistics(tree['big']) == Statistics(0, 0, False, 1.0, 1.0, 1.0)
    assert statistics(tree['array']).nan == 1 and statistics(tree['column']).mean == 3.0


# Which part is what ------------------------------------------------------------

def test_the_parts_of_a_lightning_file_are_found(tmp_path):
    module, trainer = foreign.fit_lightning(tmp_path)
    found = anatomy(open_file(tmp_path / 'last.ckpt').tree)
    assert (found.form, found.epoch, found.iter) == ('Lightning', 3, 18)
    assert list(found.weights) == list(module.state_dict()) and found.hyper_parameters == {'width': 8, 'num_items': 1}
    assert found.best['val_loss'].score == float(trainer.checkpoint_callback.best_model_score)
    assert found.stopping['monitor'] == 'val_loss' and found.stopping['rule'] == 'less' and not found.rest
    assert found.optimizers[0]['param_groups'][0]['lr'] == 0.005 and found.schedulers[0]['last_epoch'] == 3


def test_the_parts_of_hand_written_files_are_found(tmp_path):
    foreign.system_b(tmp_path / 'b.pth')
    found = anatomy(open_file(tmp_path / 'b.pth').tree)
    assert (found.form, found.weights_at, found.epoch, found.iter) == ('hand-written', 'model', 3, 18)
    assert found.best == {'pck': Best(0.8123), 'val_loss': Best(0.1234)} and found.stopping == {'wait_count': 2}
    assert found.hyper_parameters == {'lr': 0.01, 'width': 8} and 'the scheduler has made 3 steps' in found.guesses[0]
    assert found.rest == ['train_stats', 'rng_state', 'numpy_rng_state', 'python_rng_state']
    foreign.system_e(tmp_path / 'e.pth')
    found = anatomy(open_file(tmp_path / 'e.pth').tree)
    assert (found.weights_at, found.epoch, found.iter) == ('model_state_dict', 3, None)
    assert found.guesses == ['epoch 3 is taken as the number of completed epochs']


def test_the_parts_of_an_mmcv_file_are_found(tmp_path):
    foreign.mmcv(tmp_path / 'a.pth')
    found = anatomy(open_file(tmp_path / 'a.pth').tree)
    assert (found.form, found.epoch, found.iter) == ('mmcv 1.x', 3, 18)
    assert found.best == {'bbox_mAP': Best(0.71, '/runs/best_bbox_mAP_epoch_2.pth')}
    assert found.config.startswith('model = dict') and found.versions == {'mmcv': '1.7.1'}


def test_plain_weights_and_other_things_are_told_apart():
    assert anatomy({'w': torch.ones(1)}).form == 'weights'
    assert anatomy({'step': 1}).form == anatomy([torch.ones(1)]).form == 'unknown'
    assert [number(v) for v in (3, True, torch.tensor(2.5), np.float32(0.5), 'x', torch.ones(2))] == [
        3.0, None, 2.5, 0.5, None, None]
