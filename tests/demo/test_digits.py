"""The data set of the reference config."""

from __future__ import annotations

import hashlib
import inspect
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmckpt.demo.digits import DigitsKeypointDataset, build_digits, ink_keypoints


def digest():
    found = hashlib.sha256()
    for sample in build_digits():
        found.update(sample['img'].tobytes() + sample['keypoints'].tobytes() + sample['bbox'].tobytes())
    return found.hexdigest()


@pytest.fixture(scope='module')
def splits():
    return {s: DigitsKeypointDataset(split=s, pipeline=[]) for s in ('train', 'val')}


def test_the_splits_have_1401_and_396_images_and_share_none(splits):
    ids = {name: {data.get_data_info(i)['id'] for i in range(len(data))} for name, data in splits.items()}
    assert {name: len(found) for name, found in ids.items()} == {'train': 1401, 'val': 396}
    assert not ids['train'] & ids['val']


def test_two_processes_build_the_same_bytes():
    script = f'import hashlib\nfrom mmckpt.demo.digits import build_digits\n{inspect.getsource(digest)}print(digest())'
    other = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_building_leaves_the_global_random_streams_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    build_digits.cache_clear()
    build_digits()
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_every_key_point_lies_in_its_box_and_in_the_picture(splits):
    for data in splits.values():
        for i in range(len(data)):
            sample = data.get_data_info(i)
            x1, y1, x2, y2 = sample['bbox']
            xs, ys = sample['keypoints'].T
            assert 0 <= x1 + 0.5 and x2 - 0.5 <= 63 and 0 <= y1 + 0.5 and y2 - 0.5 <= 63
            assert (xs >= x1).all() and (xs <= x2).all() and (ys >= y1).all() and (ys <= y2).all()
            top, bottom, left, right, center = sample['keypoints']
            assert (top[1], bottom[1]) == (y1 + 0.5, y2 - 0.5)
            assert (left[0], right[0]) == (x1 + 0.5, x2 - 0.5)
            assert sample['area'] == (x2 - x1) * (y2 - y1)


def test_key_points_are_extremes_of_ink_over_half_its_maximum():
    ink = np.zeros((10, 12))
    ink[2, 4:7] = 0.8   # topmost row: the mean of its three pixels
    ink[3:8, 5] = 0.8
    ink[8, 5:10] = 0.8  # bottommost row, holds the rightmost pixel
    ink[0, 0] = 0.39    # below half the maximum: not ink
    points, box = ink_keypoints(ink)
    assert points[:4].tolist() == [[5, 2], [7, 8], [4, 2], [9, 8]]
    assert points[4].tolist() == pytest.approx([(15 + 25 + 35) / 13, (6 + 25 + 40) / 13], abs=1e-5)
    assert box.tolist() == [3.5, 1.5, 9.5, 8.5]


def test_the_center_of_mass_is_weighted_by_the_ink():
    ink = np.zeros((3, 5))
    ink[1, 1], ink[1, 3] = 1.0, 0.6
    assert ink_keypoints(ink)[0][4].tolist() == pytest.approx([(1 + 3 * 0.6) / 1.6, 1])


def test_all_ten_digits_occur(splits):
    labels = {splits['val'].get_data_info(i)['label'] for i in range(396)}
    assert labels == set(range(10))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="one of .*'val'.*, found 'test'"):
        DigitsKeypointDataset(split='test', pipeline=[])
