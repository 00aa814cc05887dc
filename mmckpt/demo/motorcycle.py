"""Windows of one real picture with measured depth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from mmengine.dataset import BaseDataset

from mmckpt.demo.images import mmcv
from mmckpt.extras import import_extra
from mmckpt.registry import DATASETS

# Of the picture in scikit-image's wheel, which gives the last one as "principal point dx".
FOCAL_LENGTH_PX = 994.978
BASELINE_MM = 193.001
DISPARITY_OFFSET_PX = 31.086
SHRINK = 2


@DATASETS.register_module()
class MotorcycleDepthDataset(BaseDataset):
    """Square windows of Middlebury's "Motorcycle": colours and depth in metres, in 250x370 pixels.

    One scene, split by columns: a demonstration that claims no generalisation.
    The left picture and the disparity of ``skimage.data.stereo_motorcycle()``,
    at half its size, lie in scikit-image's wheel, so nothing is downloaded.
    Depth is focal length times baseline over disparity, 2.1 to 5.0 m; 7 % of
    the pixels were not measured and are nan.

    Source: Scharstein et al. 2014, "High-Resolution Stereo Datasets with
    Subpixel-Accurate Ground Truth" (Middlebury 2014).

    Args:
        columns (tuple[int, int]): First column and the one after the last, of 370.
        window (int): Height and width of a window in pixels. Defaults to 64.
        stride (int): Pixels from one window to the next; the last window of a
            row or column ends at the edge. Defaults to 32.
        pipeline (Sequence): Transforms, as configs or callables.
        **kwargs: Of ``mmengine.dataset.BaseDataset`` (``indices``,
            ``test_mode``, ``lazy_init``, ...).

    Raises:
        ValueError: If the columns do not lie in the picture or hold no window.
        ImportError: If scikit-image is missing.

    Example:
        >>> dataset = MotorcycleDepthDataset(columns=(306, 370), pipeline=[])
        >>> len(dataset), dataset[0]['x'], dataset[6]['y']
        (7, 306, 186)
    """

    METAINFO = dict(dataset_name='motorcycle_depth', depth_unit='m')

    def __init__(self, columns: Sequence[int], window: int = 64, stride: int = 32,
                 pipeline: Sequence = (), **kwargs) -> None:
        width = load_motorcycle()[1].shape[1]
        if not (0 <= columns[0] and columns[0] + window <= columns[1] <= width):
            raise ValueError(
                f'expected columns with room for a window of {window} pixels within 0 to {width}, found {columns}')
        self.columns, self.window, self.stride = tuple(columns), window, stride
        super().__init__(pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict per window: its place, the columns it must stay in, and its number."""
        height = load_motorcycle()[1].shape[0]
        places = [(x, y) for y in _starts(0, height, self.window, self.stride)
                  for x in _starts(*self.columns, self.window, self.stride)]
        # Windows of different columns are different samples: metrics tell samples apart by these two.
        return [dict(x=x, y=y, window=self.window, columns=self.columns, img_id=x, id=y) for x, y in places]


@lru_cache(maxsize=1)
def load_motorcycle() -> tuple[np.ndarray, np.ndarray]:
    """Return the picture ``(250, 370, 3)`` uint8 RGB and its depth ``(250, 370)`` float32 in metres, nan if unknown."""
    image, _, disparity = import_extra('skimage.data').stereo_motorcycle()
    size = (image.shape[1] // SHRINK, image.shape[0] // SHRINK)
    depth = FOCAL_LENGTH_PX * BASELINE_MM / 1000 / (disparity + DISPARITY_OFFSET_PX)
    # Infinite disparity marks what was not measured. Depth is sampled, not averaged: a mean over an edge is nowhere.
    depth[~np.isfinite(disparity)] = np.nan
    return (mmcv.imresize(image, size, interpolation='area'),
            depth[:SHRINK * size[1]:SHRINK, :SHRINK * size[0]:SHRINK].astype(np.float32))


def _starts(first: int, end: int, window: int, stride: int) -> list[int]:
    """Return where windows begin so that they cover ``first`` to ``end``.

    Example:
        >>> _starts(0, 250, 64, 32)
        [0, 32, 64, 96, 128, 160, 186]
    """
    last = end - window
    return sorted({*range(first, last + 1, stride), last})
