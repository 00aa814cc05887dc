"""Transforms of the depth demos; they draw from numpy's and Python's global streams, as OpenMMLab projects do.

All read and write ``img`` (H, W, 3) uint8 RGB and ``depth`` (H, W) float32 in
metres, nan where nothing was measured.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import BaseDataElement, PixelData

from mmckpt.demo.images import BaseTransform
from mmckpt.demo.motorcycle import load_motorcycle
from mmckpt.registry import TRANSFORMS

CHANNELS = ('rgb', 'sparse', 'hole')


@TRANSFORMS.register_module()
class CutDepthWindow(BaseTransform):
    """Cut a window of :class:`mmckpt.demo.MotorcycleDepthDataset` out of its picture.

    Args:
        jitter (int): Largest random move along each axis in pixels; the window
            stays in the picture and in its columns. Defaults to 0.
    """

    def __init__(self, jitter: int = 0) -> None:
        self.jitter = jitter

    def transform(self, results: dict) -> dict:
        """Add ``img`` and ``depth``."""
        image, depth = load_motorcycle()
        window, (left, right) = results['window'], results['columns']
        x, y = results['x'], results['y']
        if self.jitter:
            x, y = (v + np.random.randint(-self.jitter, self.jitter + 1) for v in (x, y))
        x, y = np.clip(x, left, right - window), np.clip(y, 0, depth.shape[0] - window)
        results['img'] = image[y:y + window, x:x + window].copy()
        results['depth'] = depth[y:y + window, x:x + window].copy()
        return results


@TRANSFORMS.register_module()
class RandomFlipDepth(BaseTransform):
    """Mirror picture and depth.

    Args:
        prob (float): How often. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Mirror with probability ``prob``."""
        if random.random() < self.prob:
            for name in ('img', 'depth'):
                results[name] = np.ascontiguousarray(results[name][:, ::-1])
        return results


@TRANSFORMS.register_module()
class RandomBrightness(BaseTransform):
    """Multiply each colour by a factor of its own.

    Args:
        gain (tuple[float, float]): Range of the factors. Defaults to (0.8, 1.2).
    """

    def __init__(self, gain: tuple[float, float] = (0.8, 1.2)) -> None:
        self.gain = gain

    def transform(self, results: dict) -> dict:
        """Change ``img`` only."""
        image = results['img'] * np.random.uniform(*self.gain, 3)
        results['img'] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return results


@TRANSFORMS.register_module()
class SampleSparseDepth(BaseTransform):
    """Measure the depth at a few random pixels, as a sparse sensor would.

    Args:
        points (int): Pixels to measure, at most those that have a depth.
        fixed (bool): Whether a window's pixels are the same in each epoch, as
            a validation needs them. Defaults to False.
    """

    def __init__(self, points: int, fixed: bool = False) -> None:
        self.points, self.fixed = points, fixed

    def transform(self, results: dict) -> dict:
        """Add ``sparse``, metres at the measured pixels and 0 elsewhere."""
        depth = results['depth']
        measured = np.flatnonzero(np.isfinite(depth))
        stream = np.random.RandomState([results['x'], results['y']]) if self.fixed else np.random
        chosen = stream.choice(measured, min(self.points, len(measured)), replace=False)
        sparse = np.zeros_like(depth)
        sparse.flat[chosen] = depth.flat[chosen]
        results['sparse'] = sparse
        return results


@TRANSFORMS.register_module()
class PackDepthInputs(BaseTransform):
    """Pack a sample as ``inputs`` and ``data_samples``, laid out as in MMSegmentation.

    Args:
        channels (Sequence[str]): What the model sees: ``'rgb'`` (three
            channels, -1 to 1), ``'sparse'`` (metres, 0 where nothing was
            measured) and ``'hole'`` (1 where the ground truth has a hole).
            Defaults to ('rgb',).

    Raises:
        ValueError: If a channel is not known.
    """

    def __init__(self, channels: Sequence[str] = ('rgb',)) -> None:
        if not set(channels) <= set(CHANNELS):
            raise ValueError(f'expected channels out of {CHANNELS}, found {tuple(channels)}')
        self.channels = tuple(channels)

    def transform(self, results: dict) -> dict:
        """Return ``dict(inputs=..., data_samples=...)``; inputs are ``(C, H, W)`` float32."""
        depth = results['depth']
        planes = {
            'rgb': lambda: results['img'].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1,
            'sparse': lambda: results['sparse'][None],
            'hole': lambda: np.isnan(depth).astype(np.float32)[None],
        }
        inputs = np.concatenate([planes[name]() for name in self.channels])
        sample = BaseDataElement(metainfo=dict(img_id=results['img_id'], id=results['id']))
        sample.gt_depth_map = PixelData(data=torch.from_numpy(depth[None]))
        return dict(inputs=torch.from_numpy(inputs), data_samples=sample)
