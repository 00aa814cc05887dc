"""Writes a small data set in COCO's key-point format from two real pictures."""

from __future__ import annotations

import json

import mmcv
import numpy as np
import skimage.data

NAMES = ['right_eye', 'left_eye', 'nose', 'right_mouth', 'left_mouth']
SIGMAS = [0.05, 0.05, 0.05, 0.08, 0.08]
# Read off the pictures by eye: x, y, v (2: labelled and visible, 0: not labelled), and the face's box.
ASTRONAUT = ([(203, 100, 2), (247, 103, 2), (225, 125, 2), (207, 141, 2), (243, 141, 2)], (180, 60, 90, 125))
CHELSEA = ([(174, 110, 2), (314, 130, 2), (0, 0, 0), (0, 0, 0), (0, 0, 0)], (120, 40, 240, 200))


def write_tiny_coco(root, name, count, seed):
    """Write ``count`` scaled and shifted crops as pictures and ``<name>.json``.

    Besides one usable face a picture there are a crowd and an instance without
    key points, which a top-down data set must leave out.
    """
    rng = np.random.RandomState(seed)
    (root / name).mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        if number % 3 == 2:
            picture, points, box = _vary(rng, skimage.data.chelsea(), CHELSEA)
        else:
            picture, points, box = _vary(rng, skimage.data.astronaut(), ASTRONAUT)
        file_name = f'{number:03d}.png'
        mmcv.imwrite(mmcv.rgb2bgr(picture), str(root / name / file_name))
        images.append(dict(id=number, file_name=file_name, height=picture.shape[0], width=picture.shape[1]))
        annotations.append(_annotation(len(annotations) + 1, number, points, box))
    annotations.append(dict(_annotation(len(annotations) + 1, 0, points, box), iscrowd=1))
    annotations.append(_annotation(len(annotations) + 1, 1, np.zeros((5, 3)), box))
    category = dict(id=1, name='face', keypoints=NAMES, skeleton=[[1, 2], [1, 3], [2, 3]])
    (root / f'{name}.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=[category])))


def _vary(rng, picture, labels):
    points, box = np.array(labels[0], dtype=float), np.array(labels[1], dtype=float)
    scale, (dx, dy) = rng.uniform(0.6, 1.2), rng.randint(0, 40, 2)
    picture = mmcv.imrescale(picture, scale)[dy:, dx:]
    points[:, :2] = (points[:, :2] + 0.5) * scale - 0.5 - (dx, dy)
    points[points[:, 2] == 0] = 0
    return picture, points, [*(box[:2] * scale - (dx, dy)), *(box[2:] * scale)]


def _annotation(number, image_id, points, box):
    return dict(
        id=number, image_id=image_id, category_id=1, iscrowd=0, bbox=[float(v) for v in box],
        area=float(box[2] * box[3]) * 0.6, keypoints=points.ravel().tolist(),
        num_keypoints=int((points[:, 2] > 0).sum()))
