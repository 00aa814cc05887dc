"""``mmckpt diff``: equal files are equal, and what differs is named with its size."""

from __future__ import annotations

import json
import shutil
import warnings

import foreign
import pytest
import torch

from mmckpt.files import open_file
from mmckpt.files.difference import Difference, differences
from mmckpt.store import load_checkpoint


def test_a_copy_is_equal_and_another_epoch_is_not(mmckpt, trained, tmp_path):
    shutil.copy(trained / 'epoch_2.pth', tmp_path / 'copy.pth')
    status, out, _ = mmckpt('diff', trained / 'epoch_2.pth', tmp_path / 'copy.pth')
    assert (status, out) == (0, 'equal\n')
    status, out, _ = mmckpt('diff', trained / 'epoch_1.pth', trained / 'epoch_2.pth')
    assert status == 1 and 'weights: ' in out and 'optimizer: ' in out and 'meta.epoch: 1 -> 2' in out


def test_each_kind_of_change_is_found_where_it_is(mmckpt, trained, tmp_path):
    checkpoint = load_checkpoint(trained / 'epoch_2.pth')
    weights = checkpoint['state_dict']
    name = 'body.5.weight'
    before = weights[name].clone()
    weights[name][0, 0] += 0.25
    weights[name][1, 0] -= 0.5
    weights['extra'] = torch.ones(2)
    weights['body.5.bias'] = torch.ones(3)
    checkpoint['meta']['cfg'] = checkpoint['meta']['cfg'].replace('max_epochs=2', 'max_epochs=3')
    checkpoint['meta']['time'] = 'yesterday'
    checkpoint['optimizer']['param_groups'][0]['lr'] = 0.5
    torch.save(checkpoint, tmp_path / 'b.pth')
    found = {d.path: d for d in differences(open_file(trained / 'epoch_2.pth'), open_file(tmp_path / 'b.pth'))}
    value = found.pop(f'state_dict.{name}')
    assert (value.part, value.kind) == ('weights', 'value') and value.size == pytest.approx(0.5)
    assert '(2 of 5120 elements)' in value.second and value.first == f'{before[1, 0].item():.6g}'
    assert found.pop('state_dict.extra').first == '(absent)'
    assert found.pop('state_dict.body.5.bias').kind == 'shape'
    assert found.pop('train_cfg.max_epochs') == Difference('config', 'train_cfg.max_epochs', 'value', '2', '3')
    assert found.pop('optimizer.param_groups[0].lr').part == 'optimizer' and found.pop('meta.time').clock
    assert not found
    status, out, _ = mmckpt('diff', trained / 'epoch_2.pth', tmp_path / 'b.pth', '--part', 'config')
    assert status == 1 and out == 'config: 1 difference\n  train_cfg.max_epochs: 2 -> 3\n'
    parsed = json.loads(mmckpt('diff', trained / 'epoch_2.pth', tmp_path / 'b.pth', '--json')[1])
    assert {d['path'] for d in parsed} >= {'state_dict.extra', 'train_cfg.max_epochs'}


def test_tolerance_nan_and_clocks(mmckpt, tmp_path):
    torch.save({'w': torch.tensor([1.0, float('nan')])}, tmp_path / 'a.pth')
    torch.save({'w': torch.tensor([1.0, float('nan')])}, tmp_path / 'b.pth')
    torch.save({'w': torch.tensor([1.0 + 2 ** -10, float('nan')])}, tmp_path / 'c.pth')
    assert mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'b.pth')[0] == 0
    status, out, _ = mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'c.pth')
    assert status == 1 and ', by 0.000977 at most' in out
    assert mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'c.pth', '--atol', 0.001)[0] == 0
    for name, time in (('d', 'now'), ('e', 'then')):
        torch.save({'meta': {'time': time}, 'state_dict': {'w': torch.ones(1)}}, tmp_path / f'{name}.pth')
    status, out, _ = mmckpt('diff', tmp_path / 'd.pth', tmp_path / 'e.pth')
    assert status == 0 and out == 'equal\n1 times and names of runs differ as well\n'
    assert mmckpt('diff', tmp_path / 'd.pth', tmp_path / 'e.pth', '--clocks')[0] == 1


def test_sparse_and_quantized_tensors_are_compared_by_what_they_stand_for(mmckpt, tmp_path):
    dense = torch.tensor([[0, 2.5, 0], [0, 0, -1]])
    moved = dense.flip(1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for name, values in (('a', dense), ('b', dense * 2), ('c', moved)):
            torch.save({'state_dict': {'coo': values.to_sparse(), 'csr': values.to_sparse_csr(), 'q': (
                torch.quantize_per_tensor(values, 0.5, 0, torch.qint8))}}, tmp_path / f'{name}.pth')
    assert mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'a.pth')[0] == 0
    status, out, _ = mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert status == 1 and out.count('2.5 -> 5 (2 of 2 elements)') == 2 and '2.5 -> 5 (2 of 6 elements)' in out
    _, out, _ = mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'c.pth')
    assert out.count('2 stored elements -> 2 stored elements at other places') == 2


def test_the_values_shown_are_those_that_differ_most_and_lines_fit_a_terminal(mmckpt, on_terminal, tmp_path):
    name = 'backbone.stage.0.block.1.a_layer_with_a_long_name.weight'
    torch.save({name: torch.tensor([1.0, 2.0, 3.0])}, tmp_path / 'a.pth')
    torch.save({name: torch.tensor([1.5, -2.0, 3.0])}, tmp_path / 'b.pth')
    _, out, _ = mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert f'{name}: 2 -> -2 (2 of 3 elements), by 4 at most' in out
    shown = on_terminal(80, 'diff', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert max(map(len, shown)) <= 80 and f'{name}: 2 ->' in '\n'.join(shown)


def test_files_of_two_forms_are_compared_by_their_weights(mmckpt, tmp_path):
    model, _ = foreign.system_b(tmp_path / 'b.pth')
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    status, out, _ = mmckpt('diff', tmp_path / 'b.pth', tmp_path / 'weights.pth')
    assert status == 1 and out == 'form: 1 difference\n  form: hand-written -> weights\n'
    assert mmckpt('diff', tmp_path / 'b.pth', tmp_path / 'weights.pth', '--part', 'weights')[0] == 0


def test_random_streams_are_a_part_of_their_own(mmckpt, tmp_path):
    for name in ('a', 'b'):
        foreign.system_b(tmp_path / f'{name}.pth')
        torch.rand(1)
    checkpoint = torch.load(tmp_path / 'b.pth', weights_only=False)
    checkpoint['rng_state'][9] += 1
    torch.save(checkpoint, tmp_path / 'b.pth')
    status, out, _ = mmckpt('diff', tmp_path / 'a.pth', tmp_path / 'b.pth', '--part', 'random streams')
    assert status == 1 and out.startswith('random streams: 1 difference\n  rng_state: ')
