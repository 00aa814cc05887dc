"""Data sets of a few images in the formats that the projects read: COCO, Cityscapes, folders of classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64


def write_all(root: Path) -> None:
    """Write every data set below ``root``."""
    write_coco(root / 'coco', images=4)
    write_cityscapes(root / 'cityscapes', images=4)
    write_class_folders(root / 'folders', images=8)


def write_coco(root: Path, images: int) -> None:
    """Write persons (a box on noise) with boxes, masks and 17 key points."""
    rng = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    content = dict(images=[], annotations=[], categories=[dict(
        id=1, name='person', supercategory='person', skeleton=[], keypoints=[f'k{i}' for i in range(17)])])
    for i in range(1, images + 1):
        x, y = map(int, rng.integers(2, 12, 2))
        w, h = map(int, rng.integers(36, 48, 2))
        picture = _noise(rng)
        ImageDraw.Draw(picture).rectangle([x, y, x + w, y + h], fill=(200, 40 * i, 30))
        picture.save(root / 'images' / f'{i}.png')
        points = np.stack([rng.integers(x, x + w, 17), rng.integers(y, y + h, 17), np.full(17, 2)], axis=1)
        content['images'].append(dict(id=i, file_name=f'{i}.png', width=SIZE, height=SIZE))
        content['annotations'].append(dict(
            id=i, image_id=i, category_id=1, iscrowd=0, bbox=[x, y, w, h], area=w * h, num_keypoints=17,
            segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]], keypoints=points.flatten().tolist()))
    (root / 'annotations.json').write_text(json.dumps(content))


def write_cityscapes(root: Path, images: int) -> None:
    """Write streets of two classes: the left part is road, the right one building."""
    rng = np.random.default_rng(1)
    for split in ('train', 'val'):
        for part in ('leftImg8bit', 'gtFine'):
            (root / part / split / 'town').mkdir(parents=True)
        for i in range(images):
            edge = int(rng.integers(20, 44))
            picture = _noise(rng)
            ImageDraw.Draw(picture).rectangle([0, 0, edge, SIZE], fill=(90, 90, 90))
            picture.save(root / 'leftImg8bit' / split / 'town' / f'town_{i}_leftImg8bit.png')
            classes = np.full((SIZE, SIZE), 2, np.uint8)
            classes[:, :edge + 1] = 0
            Image.fromarray(classes).save(root / 'gtFine' / split / 'town' / f'town_{i}_gtFine_labelTrainIds.png')


def write_class_folders(root: Path, images: int) -> None:
    """Write bright and dark pictures, a folder a class."""
    rng = np.random.default_rng(2)
    for split in ('train', 'val'):
        for name, level in (('bright', 170), ('dark', 40)):
            (root / split / name).mkdir(parents=True)
            for i in range(images):
                pixels = np.clip(rng.normal(level, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{i}.png')


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
