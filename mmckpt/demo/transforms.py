"""Transforms of the key-point demos.

They draw from numpy's and Python's global streams, as transforms of OpenMMLab
projects do, so that the demo exercises what a user's own pipeline needs. All
read and write ``img`` (H, W, 3) uint8 BGR, ``keypoints`` (K, 2) float32 in
pixels of ``img`` and ``keypoints_visible`` (K,), where 0 means "not labelled".
"""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmckpt.demo.heatmaps import Size, encode_heatmaps, rescale_points
from mmckpt.demo.images import BaseTransform, mmcv
from mmckpt.registry import TRANSFORMS


def _hide_outside(results: dict) -> None:
    """Mark key points that left the picture as not visible."""
    height, width = results['img'].shape[:2]
    points = results['keypoints']
    inside = ((points > -0.5) & (points < (width - 0.5, height - 0.5))).all(axis=1)
    results['keypoints_visible'] = results['keypoints_visible'] * inside


@TRANSFORMS.register_module()
class TopdownCrop(BaseTransform):
    """Cut the box of one instance out of its picture and resize it to the model's input.

    The labels in pixels of the whole picture are kept as ``image_keypoints``
    and ``image_visible``; ``input_box`` (x1 y1 x2 y2, pixel edges) says which
    part of the picture the input shows, so that predictions find back.

    Args:
        input_size (tuple[int, int]): Width and height of the model's input.
        padding (float): Size of the cut relative to the box. Defaults to 1.25.
    """

    def __init__(self, input_size: Size, padding: float = 1.25) -> None:
        self.input_size = tuple(input_size)
        self.padding = padding

    def transform(self, results: dict) -> dict:
        """Replace ``img`` by the cut and move the key points into it."""
        left, top, right, bottom = box = self._cut(results['bbox'])
        patch = mmcv.imcrop(results['img'], np.array([left, top, right - 1, bottom - 1]), pad_fill=0)
        results['img'] = mmcv.imresize(patch, self.input_size)
        results['image_keypoints'] = results['keypoints']
        results['image_visible'] = results['keypoints_visible']
        results['input_box'] = np.array(box, dtype=np.float32)
        corner = np.array([left, top], dtype=np.float32)
        results['keypoints'] = rescale_points(
            results['keypoints'] - corner, (right - left, bottom - top), self.input_size)
        _hide_outside(results)
        return results

    def _cut(self, bbox: np.ndarray) -> tuple[int, int, int, int]:
        """Widen the box to the input's aspect ratio and padding, on whole pixels."""
        x1, y1, x2, y2 = (float(v) for v in bbox)
        width, height = self.input_size
        unit = max((x2 - x1) / width, (y2 - y1) / height) * self.padding
        half_width, half_height = max(unit * width / 2, 1), max(unit * height / 2, 1)
        x, y = (x1 + x2 + 1) / 2, (y1 + y2 + 1) / 2
        return (round(x - half_width), round(y - half_height), round(x + half_width), round(y + half_height))


@TRANSFORMS.register_module()
class RandomScaleShift(BaseTransform):
    """Scale, stretch and shift the picture on its own canvas; the border repeats.

    There is no rotation on purpose: the topmost pixel of a rotated digit is
    not the rotated topmost pixel.

    Args:
        scale (tuple[float, float]): Range of the factor. Defaults to (0.75, 1.15).
        aspect (float): Largest relative change of width over height. Defaults to 0.1.
        shift (float): Largest move along each axis in pixels. Defaults to 6.
    """

    def __init__(self,
                 scale: tuple[float, float] = (0.75, 1.15),
                 aspect: float = 0.1,
                 shift: float = 6) -> None:
        self.scale, self.aspect, self.shift = scale, aspect, shift

    def transform(self, results: dict) -> dict:
        """Move picture and key points by the same random amounts."""
        image = results['img']
        size = np.array(image.shape[1::-1])
        new_size = self._new_size(size)
        offset = np.rint((new_size - size) / 2 + np.random.uniform(-self.shift, self.shift, 2)).astype(int)
        results['img'] = _window(mmcv.imresize(image, tuple(new_size.tolist())), offset, size)
        points = rescale_points(results['keypoints'], tuple(size), tuple(new_size))
        results['keypoints'] = points - offset.astype(np.float32)
        _hide_outside(results)
        return results

    def _new_size(self, size: np.ndarray) -> np.ndarray:
        scale = np.random.uniform(*self.scale)
        stretch = np.sqrt(1 + np.random.uniform(-self.aspect, self.aspect))
        return np.maximum(np.rint(size * (scale * stretch, scale / stretch)).astype(int), 1)


def _window(image: np.ndarray, offset: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Cut a window that may reach over the image's border."""
    before = np.maximum(-offset, 0)
    after = np.maximum(offset + size - image.shape[1::-1], 0)
    padded = mmcv.impad(image, padding=(*before.tolist(), *after.tolist()), padding_mode='edge')
    x, y = (offset + before).tolist()
    return padded[y:y + size[1], x:x + size[0]]


@TRANSFORMS.register_module()
class RandomFlipKeypoints(BaseTransform):
    """Mirror the picture and give left and right key points each other's place.

    Which one takes whose place comes from the data set, as ``flip_indices``.

    Args:
        prob (float): How often. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Mirror with probability ``prob``."""
        if random.random() < self.prob:
            partners = results['flip_indices']
            points = results['keypoints'][partners]
            points[:, 0] = results['img'].shape[1] - 1 - points[:, 0]
            results['img'] = mmcv.imflip(results['img'])
            results['keypoints'] = points
            results['keypoints_visible'] = results['keypoints_visible'][partners]
        return results


@TRANSFORMS.register_module()
class PhotometricJitter(BaseTransform):
    """Change the contrast of the picture and add noise.

    Args:
        gain (tuple[float, float]): Range of the contrast factor, around the
            picture's mean. Defaults to (0.7, 1.3).
        noise (float): Largest standard deviation of the noise, in grey levels
            of 255. Defaults to 10.
    """

    def __init__(self, gain: tuple[float, float] = (0.7, 1.3), noise: float = 10) -> None:
        self.gain, self.noise = gain, noise

    def transform(self, results: dict) -> dict:
        """Change ``img`` only."""
        image = results['img'].astype(np.float32)
        mean = image.mean()
        image = (image - mean) * np.random.uniform(*self.gain) + mean
        image += np.random.normal(0, np.random.uniform(0, self.noise), image.shape)
        results['img'] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return results


@TRANSFORMS.register_module()
class GenerateHeatmap(BaseTransform):
    """Encode the key points as heat maps.

    Args:
        heatmap_size (tuple[int, int]): Width and height. Defaults to (32, 32).
        sigma (float): Standard deviation of the peaks in cells. Defaults to 2.0.
    """

    def __init__(self, heatmap_size: Size = (32, 32), sigma: float = 2.0) -> None:
        self.heatmap_size, self.sigma = tuple(heatmap_size), sigma

    def transform(self, results: dict) -> dict:
        """Add ``heatmaps`` (K, H, W), ``keypoint_cells`` (K, 2) and ``keypoint_weights`` (K,)."""
        input_size = results['img'].shape[1::-1]
        cells = rescale_points(results['keypoints'], input_size, self.heatmap_size)
        weights = (results['keypoints_visible'] > 0).astype(np.float32)
        maps = encode_heatmaps(cells, self.heatmap_size, self.sigma)
        results['heatmaps'] = maps * weights[:, None, None]
        results['keypoint_cells'] = cells
        results['keypoint_weights'] = weights
        return results


@TRANSFORMS.register_module()
class PackKeypointInputs(BaseTransform):
    """Pack a sample as ``inputs`` and ``data_samples``, laid out as MMPose does.

    ``gt_instances`` has key points, boxes and areas in pixels of the whole
    picture, for metrics; ``gt_instance_labels`` and ``gt_fields`` have the
    training targets in heat-map cells. Small arrays stay numpy: as tensors,
    each would cost one file descriptor on its way out of a data worker.
    """

    def transform(self, results: dict) -> dict:
        """Return ``dict(inputs=..., data_samples=...)``."""
        height, width = results['img'].shape[:2]
        sample = BaseDataElement(metainfo=dict(
            img_id=results['img_id'],
            id=results['id'],
            category_id=results.get('category_id', 1),
            ori_shape=results.get('ori_shape', (height, width)),
            input_size=(width, height),
            input_box=np.asarray(results.get('input_box', (0, 0, width, height)), dtype=np.float32)))
        sample.gt_instances = InstanceData(
            keypoints=results.get('image_keypoints', results['keypoints'])[None],
            keypoints_visible=results.get('image_visible', results['keypoints_visible'])[None],
            bboxes=results['bbox'][None],
            areas=np.array([results['area']], dtype=np.float32))
        sample.gt_instance_labels = InstanceData(
            keypoint_cells=results['keypoint_cells'][None],
            keypoint_weights=results['keypoint_weights'][None])
        sample.gt_fields = PixelData(heatmaps=torch.from_numpy(results['heatmaps']))
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
