"""No file runs anything or uses up the machine, whatever is done with it: measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import hostile_values
import pytest

VALUES = hostile_values.ALL
ALL = hostile.RUNS_CODE + hostile.BOMBS + VALUES


@pytest.fixture(scope='module')
def inspected(tmp_path_factory):
    """What ``mmckpt inspect --stats`` did with each file: status, seconds, bytes, text; and the directory."""
    directory = tmp_path_factory.mktemp('hostile')
    for write in ALL:
        write(directory / write.__name__, str(directory / f'victim_{write.__name__}'))
    done = subprocess.run([sys.executable, hostile.__file__, str(directory), *(write.__name__ for write in VALUES)],
                          capture_output=True, text=True,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parents[2])},
                          timeout=200)
    assert not done.returncode, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, status, seconds, peak = json.loads(line)
        found[name] = (status, seconds, peak, (directory / f'{name}.out').read_text())
    return directory, found


@pytest.mark.parametrize('name', [write.__name__ for write in ALL])
def test_it_runs_nothing_and_costs_little(inspected, name):
    directory, found = inspected
    status, seconds, peak, text = found[name]
    assert not list(directory.glob('victim*'))
    assert status in (0, 1, 2) and 'Traceback' not in text, text[-2000:]
    assert seconds < hostile.MOST_SECONDS and peak < hostile.MOST_BYTES
    assert '\x1b' not in text


@pytest.mark.parametrize('name', [write.__name__ for write in hostile.RUNS_CODE])
def test_a_file_that_would_run_code_is_called_hostile(inspected, name):
    status, _, _, text = inspected[1][name]
    assert status == 1 and 'HOSTILE: loading it the old way would call' in text
    assert 'touch' in text or 'open(' in text


@pytest.mark.parametrize('name, said', [
    ('zip_bomb_in_the_pickle', 'a zip bomb'), ('zip_bomb_in_a_tensor', 'would become 209715200'),
    ('names_that_point_out', '2 names in it point out of the archive'),
    ('gigantic_shapes', 'it claims 4003999999996 bytes of a storage that has 16'),
    ('deep_recursion', 'nested more than 60 deep'), ('doubling_lists', 'it unfolds to more than 400000 values'),
    ('a_list_in_itself', 'contain themselves'), ('many_empty_objects', 'more than 3000000 objects'),
    ('many_memos', 'more than 3000000 objects'), ('keys_that_collide', 'takes more than 5 s'),
    ('a_long_list_of_names', 'its list of names takes'), ('a_nested_header', 'its header is broken'),
    ('a_header_that_lies', 'it is truncated'), ('paths_made_again_and_again', 'small values hold more than'),
    ('a_dict_copied_again_and_again', 'more than 3000000 objects'),
    ('sparse_indices_that_lie_outside', 'w: cannot be read: its indices reach from 0 to 1e+15, outside'),
    ('sparse_indices_that_lie_outside', 'such as w: a sparse tensor of shape (4, 4) is broken'),
    ('sparse_indices_that_lie_outside_of_rows', 'w: cannot be read: its indices reach from -5 to 1000000000000'),
    ('a_gigantic_sparse_shape', 'has more elements than can be counted'),
    ('sparse_parts_that_repeat_themselves', 'its parts claim more elements than the file holds'),
    ('quantized_tensors_that_repeat_themselves', 'w: cannot be read: it claims more elements than the file holds'),
    ('thousands_of_tensors_of_the_same_bytes', 'note: its values are not read: its tensors look at 57600000000 bytes'),
    ('strange_dtypes', 'w: cannot be read: its scales or zero points are not one a channel'),
    ('strange_dtypes', 'not implemented for'), ('strange_dtypes', 'its numbers stand for others'),
    ('strides_beyond_all_numbers', 'x: cannot be read: its shape, strides or offset are negative or too large'),
    ('one_number_a_thousand_million_times', 'its shape 1000000000000 repeats the 32 bytes in the file')])
def test_what_is_wrong_is_said(inspected, name, said):
    assert said in inspected[1][name][3]


def test_the_victims_are_touched_by_whoever_trusts_the_files(tmp_path):
    # Else the tests above would prove nothing.
    hostile.in_an_old_torch_file(tmp_path / 'a.pth', str(tmp_path / 'victim'))
    code = f'import torch; torch.load({str(tmp_path / "a.pth")!r}, weights_only=False)'
    subprocess.run([sys.executable, '-c', code], check=True, timeout=100)
    assert (tmp_path / 'victim').exists()
