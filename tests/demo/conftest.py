"""A tiny COCO data set that the tests write themselves."""

from __future__ import annotations

import pytest
from tiny_coco import write_tiny_coco


@pytest.fixture(scope='module')
def coco_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    write_tiny_coco(root, 'train', count=24, seed=0)
    write_tiny_coco(root, 'val', count=9, seed=1)
    return root
