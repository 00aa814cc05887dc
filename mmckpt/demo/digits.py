"""Handwritten digits on photographs, with key points computed from the ink."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from mmengine.dataset import BaseDataset

from mmckpt.demo.images import mmcv
from mmckpt.extras import import_extra
from mmckpt.registry import DATASETS

PHOTOGRAPHS = (
    'astronaut', 'brick', 'grass', 'gravel', 'coffee', 'chelsea', 'rocket', 'camera', 'moon', 'coins')
IMAGE_SIZE = 64
INK_SIZE = 48
NUM_TRAIN = 1401
SPLITS = dict(train=slice(0, NUM_TRAIN), val=slice(NUM_TRAIN, None), all=slice(None))
BUILD_SEED = 20261124


@DATASETS.register_module()
class DigitsKeypointDataset(BaseDataset):
    """Digits of scikit-learn on photographs of scikit-image: 64x64 pixels, five key points.

    A demonstration, not a benchmark: the two splits share writers and
    photographs. Everything is built in memory, from the two installed wheels
    and a generator of its own, so it needs no download, is the same on every
    machine and leaves the global random streams alone.

    Images: 1,797 handwritten digits of ``sklearn.datasets.load_digits`` (test
    part of "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak,
    UCI Machine Learning Repository, CC BY 4.0), enlarged, rotated by up to 26
    degrees, scaled by 0.55 to 0.95, shifted by up to 8 pixels, and blended in
    light or dark ink on crops of ten pictures of ``skimage.data`` (public
    domain, CC0 or freely usable with credit; each function's docstring there
    names the photographer and the licence).

    Key points, where the ink is over half its maximum: the topmost,
    bottommost, leftmost and rightmost pixel (the mean of those that tie) and
    the centre of mass of the ink. The box is the extent of that ink, the area
    its width times its height. OKS sigma is 0.08 for each.

    Args:
        split (str): ``'train'`` (1,401 images), ``'val'`` (396 images) or
            ``'all'``.
        pipeline (list): Transforms, as configs or callables.
        labels (Sequence[int], optional): Keep only images of these digits.
            Defaults to None, all ten.
        **kwargs: Of ``mmengine.dataset.BaseDataset`` (``indices``,
            ``test_mode``, ``lazy_init``, ...).

    Raises:
        ValueError: If ``split`` or ``labels`` name what there is not.
        ImportError: If scikit-learn or scikit-image is missing.

    Example:
        >>> dataset = DigitsKeypointDataset(split='val', pipeline=[])
        >>> len(dataset), dataset[0]['img'].shape, dataset[0]['keypoints'].shape
        (396, (64, 64, 3), (5, 2))
    """

    METAINFO = dict(
        dataset_name='digits_keypoints',
        keypoint_names=['top', 'bottom', 'left', 'right', 'center'],
        sigmas=[0.08] * 5,
        flip_indices=[0, 1, 3, 2, 4],
        skeleton=[[0, 4], [1, 4], [2, 4], [3, 4]],
    )

    def __init__(self, split: str, pipeline: list, labels: Sequence[int] | None = None, **kwargs) -> None:
        if split not in SPLITS:
            raise ValueError(f'expected split to be one of {tuple(SPLITS)}, found {split!r}')
        if labels is not None and not set(labels) <= set(range(10)):
            raise ValueError(f'expected labels to be digits from 0 to 9, found {list(labels)}')
        self.split, self.labels = split, labels
        super().__init__(pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict per image of the split; see :func:`build_digits`."""
        return [dict(sample, flip_indices=self.METAINFO['flip_indices'])
                for sample in build_digits()[SPLITS[self.split]]
                if self.labels is None or sample['label'] in self.labels]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the digit of an image, as samplers by category ask for it."""
        return [self.get_data_info(idx)['label']]


@lru_cache(maxsize=1)
def build_digits() -> tuple[dict, ...]:
    """Draw all 1,797 images in their fixed, shuffled order; cached in this process.

    Returns:
        tuple[dict]: ``img`` (64, 64, 3) uint8 in BGR; ``keypoints`` (5, 2)
        float32 in pixels; ``keypoints_visible`` (5,) float32; ``bbox`` (4,)
        float32, x1 y1 x2 y2; ``area`` in square pixels; ``label``, the digit;
        ``img_id`` and ``id``, numbers that no other image has.
    """
    rng = np.random.Generator(np.random.PCG64(BUILD_SEED))
    digits = import_extra('sklearn.datasets').load_digits()
    photographs = [_load_photograph(name) for name in PHOTOGRAPHS]
    order = rng.permutation(len(digits.images))
    return tuple(
        _draw_sample(rng, int(i), digits.images[i], int(digits.target[i]), photographs) for i in order)


def _load_photograph(name: str) -> np.ndarray:
    image = getattr(import_extra('skimage.data'), name)()
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return image[..., 2::-1]


def _draw_sample(rng: np.random.Generator, number: int, digit: np.ndarray, label: int,
                 photographs: list[np.ndarray]) -> dict:
    ink = _place_ink(rng, digit)
    background = _random_crop(rng, photographs[rng.integers(len(photographs))])
    image = background + ink[..., None] * (_ink_colour(rng) - background)
    keypoints, bbox = ink_keypoints(ink)
    return dict(
        img=np.clip(np.rint(image), 0, 255).astype(np.uint8),
        keypoints=keypoints,
        keypoints_visible=np.ones(len(keypoints), dtype=np.float32),
        bbox=bbox,
        area=float((bbox[2] - bbox[0]) * (bbox[3] - bbox[1])),
        label=label,
        img_id=number,
        id=number)


def _place_ink(rng: np.random.Generator, digit: np.ndarray) -> np.ndarray:
    """Enlarge an 8x8 digit (values 0 to 16) and put it somewhere in the image; values 0 to 1."""
    large = mmcv.imresize(digit.astype(np.float32) / 16, (INK_SIZE, INK_SIZE), interpolation='bicubic')
    ink = mmcv.impad(large, padding=(IMAGE_SIZE - INK_SIZE) // 2)
    ink = mmcv.imrotate(ink, rng.uniform(-26, 26), scale=rng.uniform(0.55, 0.95))
    for direction in ('horizontal', 'vertical'):
        ink = mmcv.imtranslate(ink, rng.uniform(-8, 8), direction)
    return np.clip(ink, 0, 1)


def _random_crop(rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
    height, width = photograph.shape[:2]
    x = int(rng.integers(width - IMAGE_SIZE + 1))
    y = int(rng.integers(height - IMAGE_SIZE + 1))
    return photograph[y:y + IMAGE_SIZE, x:x + IMAGE_SIZE].astype(np.float32)


def _ink_colour(rng: np.random.Generator) -> np.ndarray:
    low, high = (190, 256) if rng.random() < 0.5 else (0, 65)
    return rng.integers(low, high, size=3).astype(np.float32)


def ink_keypoints(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the five key points and the box of a digit from its ink.

    Args:
        ink (np.ndarray): ``(H, W)`` float, 0 where there is no ink.

    Returns:
        tuple[np.ndarray, np.ndarray]: Key points ``(5, 2)`` (top, bottom,
        left, right, centre of mass; x and y) and box ``(4,)`` x1 y1 x2 y2
        around the outer edges of the ink, float32.

    Example:
        >>> ink = np.zeros((6, 6)); ink[1, 2:5] = 1; ink[2:4, 3] = 1
        >>> ink_keypoints(ink)[0].tolist()
        [[3.0, 1.0], [3.0, 3.0], [2.0, 1.0], [4.0, 1.0], [3.0, 1.600000023841858]]
    """
    solid = ink > 0.5 * ink.max()
    ys, xs = np.nonzero(solid)
    weights = ink[ys, xs]
    top, bottom, left, right = ys.min(), ys.max(), xs.min(), xs.max()
    keypoints = [
        (xs[ys == top].mean(), top),
        (xs[ys == bottom].mean(), bottom),
        (left, ys[xs == left].mean()),
        (right, ys[xs == right].mean()),
        (np.average(xs, weights=weights), np.average(ys, weights=weights)),
    ]
    bbox = (left - 0.5, top - 0.5, right + 0.5, bottom + 0.5)
    return np.array(keypoints, dtype=np.float32), np.array(bbox, dtype=np.float32)
