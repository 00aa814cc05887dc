"""Share of key points that were found close enough to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmckpt.evaluation.keypoint_samples import as_array, drop_repeats, sample_key
from mmckpt.registry import METRICS

NORMALIZERS = ('bbox', 'head', 'torso')


@METRICS.register_module()
class PCK(BaseMetric):
    """Percentage of correct key points: within ``threshold`` times the size of the object.

    ``PCK`` is the mean over key-point types of the share of labelled key
    points found; types that are never labelled do not count. It is a share
    from 0 to 1, nan when no key point at all is labelled.

    Data samples are laid out as in MMPose: ``pred_instances.keypoints``
    ``(N, K, 2)``; ``gt_instances`` with ``keypoints`` ``(N, K, 2)``,
    ``keypoints_visible`` ``(N, K)`` (0: not labelled) and, for ``'bbox'``,
    ``bboxes`` ``(N, 4)`` as x1 y1 x2 y2.

    Args:
        threshold (float): Largest distance, relative to the normaliser; a
            distance of exactly that much counts as found. Defaults to 0.2.
        normalizer (str): ``'bbox'`` (longer side of the box), ``'head'`` or
            ``'torso'`` (distance of two labelled key points). Defaults to 'bbox'.
        normalizer_keypoints (tuple[int, int], optional): The two key points
            of ``'head'`` or ``'torso'``. Instances where one of them is not
            labelled do not count.
        per_keypoint (bool): Also return ``PCK_<name>`` for every key-point
            type. Defaults to False.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to 'cpu'.
        prefix (str, optional): ``'pose'`` makes ``pose/PCK``. Defaults to None.

    Raises:
        ValueError: If ``threshold`` is not positive, ``normalizer`` is not
            known, or its two key points are missing or not wanted.

    Example:
        >>> metric = PCK(threshold=0.1)
        >>> truth = dict(keypoints=[[[0, 0], [9, 9]]], keypoints_visible=[[1, 1]], bboxes=[[0, 0, 10, 10]])
        >>> found = dict(keypoints=[[[0, 1], [9, 7]]])
        >>> metric.process(None, [dict(pred_instances=found, gt_instances=truth)])
        >>> metric.evaluate(size=1)
        {'PCK': 0.5}
    """

    # An empty prefix, unlike None, also spares the user a warning of BaseMetric.
    default_prefix = ''

    def __init__(self,
                 threshold: float = 0.2,
                 normalizer: str = 'bbox',
                 normalizer_keypoints: Sequence[int] | None = None,
                 per_keypoint: bool = False,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if threshold <= 0:
            raise ValueError(f'expected a PCK threshold above 0, found {threshold}')
        if normalizer not in NORMALIZERS:
            raise ValueError(f'expected normalizer to be one of {NORMALIZERS}, found {normalizer!r}')
        if (normalizer == 'bbox') != (normalizer_keypoints is None):
            raise ValueError(
                f"normalizer_keypoints (two numbers) goes with 'head' and 'torso' and only with them, "
                f'found {normalizer!r} with {normalizer_keypoints}')
        self.threshold = threshold
        self.normalizer_keypoints = None if normalizer_keypoints is None else tuple(normalizer_keypoints)
        self.per_keypoint = per_keypoint

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measure one batch; called by MMEngine's evaluator."""
        for sample in data_samples:
            truth = sample['gt_instances']
            target = as_array(truth['keypoints']).astype(np.float64)
            found = as_array(sample['pred_instances']['keypoints']).astype(np.float64)
            visible = as_array(truth['keypoints_visible']) > 0
            size = self._object_size(truth, target, visible)
            distance = np.linalg.norm(found - target, axis=-1)
            valid = visible & (size > 0)[:, None]
            hits = valid & (distance <= self.threshold * size[:, None])
            self.results.append(dict(key=sample_key(sample), hits=hits.sum(0), valid=valid.sum(0)))

    def _object_size(self, truth: dict, target: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Length ``(N,)`` that the threshold is a share of; 0 where it is unknown."""
        if self.normalizer_keypoints is None:
            boxes = as_array(truth['bboxes']).astype(np.float64)
            return (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        first, second = self.normalizer_keypoints
        length = np.linalg.norm(target[:, first] - target[:, second], axis=-1)
        return length * (visible[:, first] & visible[:, second])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return ``PCK`` and, if asked for, the share of each key-point type."""
        results = drop_repeats(results)
        hits = np.sum([r['hits'] for r in results], axis=0)
        valid = np.sum([r['valid'] for r in results], axis=0)
        shares = np.divide(hits, valid, out=np.full(np.shape(valid), np.nan), where=valid > 0)
        labelled = shares[valid > 0]
        metrics = dict(PCK=float(labelled.mean()) if labelled.size else float('nan'))
        if self.per_keypoint:
            metrics.update({f'PCK_{n}': float(s) for n, s in zip(self._keypoint_names(len(shares)), shares)})
        return metrics

    def _keypoint_names(self, count: int) -> list[str]:
        names = (self.dataset_meta or {}).get('keypoint_names')
        return list(names) if names else [str(i) for i in range(count)]
