"""``mmckpt inspect`` on real files of each kind."""

from __future__ import annotations

import json
import os
import sys

import foreign
import pytest
import torch

from mmckpt.cli.main import main


def test_a_file_of_mmengine_is_a_tree_with_progress_best_and_sizes(mmckpt, trained):
    status, out, err = mmckpt('inspect', trained / 'epoch_2.pth')
    assert (status, err) == (0, '')
    assert 'MMEngine, torch file' in out and 'written by' in out and 'mmengine 0.10' in out
    assert '2 epochs and' in out and 'config' in out and 'optimizer' in out
    rows = [line.split() for line in out.splitlines()]
    assert ['state_dict'] in [row[:1] for row in rows] and any(row[:2] == ['weight', '8x1x3x3'] for row in rows)
    assert 'HOSTILE' not in out


def test_a_work_directory_or_what_to_take_of_it_can_be_given(mmckpt, trained):
    whole = mmckpt('inspect', trained / 'epoch_2.pth')[1]
    status, out, err = mmckpt('inspect', trained)
    assert (status, out) == (0, whole) and 'epoch_2.pth' in err
    assert mmckpt('inspect', f'{trained}@epoch:1')[1].startswith(f'{trained}/epoch_1.pth')


def test_json_has_every_tensor_and_the_shares_of_the_parts(mmckpt, trained):
    found = json.loads(mmckpt('inspect', trained / 'epoch_2.pth', '--json', '--stats')[1])
    assert found['form'] == 'MMEngine' and found['epoch'] == 2 and found['config'] and not found['hostile']
    real = torch.load(trained / 'epoch_2.pth', weights_only=False)
    ours = {t['key']: t for t in found['tensors']}
    for name, tensor in real['state_dict'].items():
        entry = ours[f'state_dict.{name}']
        assert entry['shape'] == list(tensor.shape) and entry['dtype'] == str(tensor.dtype)[6:]
        assert entry['stats']['mean'] == pytest.approx(float(tensor.double().mean()))
    assert sum(part['share'] for part in found['parts']) == pytest.approx(1, abs=1e-3)
    assert found['optimizers'][0]['groups'] == 1


def test_a_file_of_lightning_shows_callbacks_schedulers_and_hyper_parameters(mmckpt, tmp_path):
    foreign.fit_lightning(tmp_path)
    status, out, _ = mmckpt('inspect', tmp_path / 'last.ckpt')
    assert status == 0 and 'Lightning, torch file' in out and '3 epochs and 18 iterations' in out
    for text in ('best val_loss', 'last_epoch 3', "monitor 'val_loss'", "'width': 8", 'ModelCheckpoint', 'exp_avg'):
        assert text in out, text


def test_keys_are_chosen_by_text_or_pattern(mmckpt, tmp_path):
    torch.save({'model': foreign.net().state_dict(), 'epoch': 4}, tmp_path / 'a.pth')
    chosen = [line.split()[0] for line in mmckpt('inspect', tmp_path / 'a.pth', '--keys', 'weight')[1].splitlines()
              if 'weight' in line]
    assert chosen == ['model.0.weight', 'model.2.weight']
    assert 'model.2.bias' in mmckpt('inspect', tmp_path / 'a.pth', '--keys', 'model.*.bias')[1]
    status, _, err = mmckpt('inspect', tmp_path / 'a.pth', '--keys', 'nothing')
    assert status == 2 and "It has 'model', 'epoch'" in err


def test_nan_and_zeros_are_flagged_and_nan_is_status_1(mmckpt, tmp_path):
    weights = {'head.weight': torch.zeros(3), 'neck.weight': torch.tensor([1.0, float('nan')])}
    torch.save(weights, tmp_path / 'a.pth')
    assert mmckpt('inspect', tmp_path / 'a.pth')[0] == 0
    status, out, _ = mmckpt('inspect', tmp_path / 'a.pth', '--stats')
    assert status == 1 and 'neck.weight: BAD: 1 NaN' in out and '1 tensors hold only 0: head.weight' in out


def test_many_tensors_are_folded_and_a_terminal_gets_a_tree_in_its_width(mmckpt, on_terminal, tmp_path):
    torch.save({f'layer{i}.block{j}.weight': torch.ones(2) for i in range(20) for j in range(20)}, tmp_path / 'a.pth')
    _, out, _ = mmckpt('inspect', tmp_path / 'a.pth')
    assert len(out.splitlines()) < 40 and 'folded: --keys PATTERN' in out and '20 tensors' in out
    shown = on_terminal(80, 'inspect', tmp_path / 'a.pth')
    assert any(line.startswith('└─ layer19') for line in shown) and max(map(len, shown[2:])) <= 80


@pytest.mark.parametrize('columns', [80, 120])
def test_values_and_facts_fit_the_terminal_and_what_was_logged_is_one_line(on_terminal, trained, columns):
    shown = on_terminal(columns, 'inspect', trained / 'epoch_2.pth', '--stats')
    # A path stays whole.
    assert max(len(line) for line in shown[1:] if str(trained) not in line) <= columns
    assert any('train/loss ' in line and '8 logged' in line for line in shown)
    assert any('num_bat' in line and '8 to 8, mean 8' in line for line in shown)
    assert any(line.startswith('  best acc ') for line in shown)


@pytest.mark.parametrize('write, said', [
    (foreign.system_b, 'best pck'), (foreign.system_e, 'hand-written'), (foreign.mmcv, 'mmcv 1.x, torch file'),
    (foreign.sharded, 'hand-written, sharded checkpoint')])
def test_other_forms_are_named(mmckpt, tmp_path, write, said):
    write(tmp_path / 'a.pth')
    status, out, _ = mmckpt('inspect', tmp_path / 'a.pth')
    assert status == 0 and said in out


def test_safetensors_of_the_real_library_are_shown(mmckpt, tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(foreign.net().state_dict(), tmp_path / 'a.safetensors', {'format': 'pt'})
    status, out, _ = mmckpt('inspect', tmp_path / 'a.safetensors', '--stats')
    assert status == 0 and 'weights only, safetensors' in out and "{'format': 'pt'}" in out


def test_a_reader_that_leaves_early_is_no_failure(tmp_path, monkeypatch):
    torch.save({'state_dict': {'w': torch.ones(2)}}, tmp_path / 'a.pth')
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, 'w') as output:
        monkeypatch.setattr(sys, 'stdout', output)
        assert main(['inspect', str(tmp_path / 'a.pth')]) == 141


@pytest.mark.parametrize('pending', [True, False])
def test_a_file_that_is_older_than_its_validation_says_so(mmckpt, tmp_path, pending):
    torch.save({'state_dict': {'w': torch.ones(2)}, 'meta': {'mmengine_version': '0.10.7'},
                'mmckpt': {'val_pending': pending}}, tmp_path / 'a.pth')
    assert ('note: it was written before the validation of its step' in mmckpt(
        'inspect', tmp_path / 'a.pth')[1]) is pending
