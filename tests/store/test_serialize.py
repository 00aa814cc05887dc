"""What a state becomes on the disk."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from mmckpt.store.serialize import write_state
from mmckpt.store.space import estimate_bytes, run_warning
from mmckpt.store.tree import compact


def written(state):
    file = io.BytesIO()
    write_state(state, file)
    return file


def size_of(state):
    return written(state).getbuffer().nbytes


def test_any_zip_tool_accepts_the_file(tmp_path, open_store, save):
    store = open_store()
    save(store, 1)
    command = [sys.executable, '-m', 'zipfile', '-t', str(store.directory / 'epoch_1.pth')]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'Done testing'


def test_torch_save_of_the_user_keeps_its_checksums(tmp_path, open_store, save):
    store = open_store()
    save(store, 1)
    torch.save({'w': torch.ones(100)}, tmp_path / 'mine.pth')
    assert zipfile.ZipFile(tmp_path / 'mine.pth').testzip() is None


BIG = 1_000_000


@pytest.mark.parametrize('make, most', [
    (lambda big: {'view': big[:10]}, 40), (lambda big: {'view': big.view(1000, 1000)[:, 7]}, 4000),
    (lambda big: {'stride': big[::1000]}, 4000), (lambda big: {'a': big[:10], 'b': big[-10:]}, 80),
    (lambda big: {'tied': big[:100], 'again': big[:100]}, 400), (lambda big: [big[5:5]], 0),
    (lambda big: {'parameter': torch.nn.Parameter(big[:10], requires_grad=False)}, 40),
], ids=['view', 'column', 'stride', 'two ends', 'tied', 'empty', 'parameter'])
def test_a_view_never_writes_the_storage_behind_it(make, most):
    state = make(torch.randn(BIG))
    assert size_of(state) < most + 3000
    loaded = torch.load(io.BytesIO(written(state).getvalue()), weights_only=True)
    keys = state if isinstance(state, dict) else range(len(state))
    assert all(torch.equal(loaded[key], state[key]) for key in keys)


def test_views_that_fill_one_buffer_are_written_once_and_stay_tied():
    flat = torch.randn(1000)
    state = {'flat': flat, 'first': flat[:600], 'second': flat[600:]}
    assert compact(state) is state, 'nothing needs a copy'
    loaded = torch.load(io.BytesIO(written(state).getvalue()), weights_only=True)
    loaded['flat'].zero_()
    assert loaded['first'].sum() == loaded['second'].sum() == 0
    without = {'first': flat[:600], 'second': flat[600:]}
    assert size_of(without) < 4000 + 3000


def test_a_state_dict_keeps_its_versions():
    state = {'state_dict': torch.nn.BatchNorm1d(3).state_dict(), 'view': torch.zeros(100)[:1]}
    loaded = torch.load(io.BytesIO(written(state).getvalue()), weights_only=True)
    assert type(loaded['state_dict']) is OrderedDict
    assert loaded['state_dict']._metadata == state['state_dict']._metadata != {}


@pytest.mark.parametrize('state', [
    {'w': torch.zeros(100_000)}, {'a': torch.zeros(1000)[:10]}, {'a': [torch.zeros(50_000)] * 5},
    {'nothing': 1},
])
def test_the_size_is_foretold(state):
    assert 0 <= estimate_bytes(state) - size_of(state) < 400_000


@pytest.mark.parametrize('size, files, there, free, fits', [
    (100, 3, 0, 400, None), (100, 3, 0, 399, 2), (100, 3, 300, 100, None), (100, 3, 0, 50, 0),
])
def test_one_file_more_than_is_kept_must_fit(size, files, there, free, fits):
    warning = run_warning(size, files, there, free)
    assert (warning is None) if fits is None else f'Keep at most {fits} ' in warning
