"""Errors and accuracies of predicted depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmckpt.evaluation.keypoint_samples import as_array, drop_repeats, sample_key
from mmckpt.registry import METRICS

NAMES = ('rmse', 'mae', 'abs_rel', 'sq_rel', 'delta1', 'delta2', 'delta3')


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """rmse, mae, abs_rel, sq_rel and delta1 to delta3, on the pixels that have a true depth.

    Each is computed within a sample and then averaged over samples, so that a
    sample weighs the same whatever its batch, its rank or its number of valid
    pixels. Samples without a valid pixel do not count; without any sample that
    counts, all are nan.

    A pixel is valid where the truth is finite and lies in ``min_depth`` to
    ``max_depth``. The prediction is cut to these limits, after median scaling.

    Data samples are laid out as in MMSegmentation: ``pred_depth_map.data`` and
    ``gt_depth_map.data``, each ``(1, H, W)`` or ``(H, W)`` in one unit, mostly
    metres.

    Source: Eigen et al. 2014, "Depth Map Prediction from a Single Image using
    a Multi-Scale Deep Network", section 4.

    Args:
        min_depth (float): Smallest true depth that counts, above 0, in the
            unit of the data. Defaults to 1e-3.
        max_depth (float, optional): Largest true depth that counts. Defaults
            to None, no limit.
        median_scaling (bool): Multiply each prediction by the ratio of the
            medians first, for models that know depth up to a factor.
            Defaults to False.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to 'cpu'.
        prefix (str, optional): ``'depth'`` makes ``depth/abs_rel``. Defaults
            to None.

    Raises:
        ValueError: If the limits are not 0 < ``min_depth`` < ``max_depth``, or
            prediction and truth differ in shape.

    Example:
        >>> metric = DepthMetric()
        >>> maps = dict(gt_depth_map=dict(data=[[2.0, 4.0]]), pred_depth_map=dict(data=[[2.0, 5.0]]))
        >>> metric.process(None, [maps])
        >>> {name: round(value, 3) for name, value in metric.evaluate(size=1).items()}
        {'rmse': 0.707, 'mae': 0.5, 'abs_rel': 0.125, 'sq_rel': 0.125, 'delta1': 0.5, 'delta2': 1.0, 'delta3': 1.0}
    """

    # An empty prefix, unlike None, also spares the user a warning of BaseMetric.
    default_prefix = ''

    def __init__(self,
                 min_depth: float = 1e-3,
                 max_depth: float | None = None,
                 median_scaling: bool = False,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.min_depth, self.max_depth = float(min_depth), math.inf if max_depth is None else float(max_depth)
        if not 0 < self.min_depth < self.max_depth:
            raise ValueError(f'expected 0 < min_depth < max_depth, found {min_depth} and {max_depth}')
        self.median_scaling = median_scaling

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measure one batch; called by MMEngine's evaluator."""
        for sample in data_samples:
            found = as_array(sample['pred_depth_map']['data']).astype(np.float64)
            truth = as_array(sample['gt_depth_map']['data']).astype(np.float64)
            if found.shape != truth.shape:
                raise ValueError(
                    f'expected a predicted depth map of the shape of the true one, {truth.shape}, found '
                    f'{found.shape}; let the model resize its prediction')
            self.results.append(dict(key=sample_key(sample), values=self._errors(found, truth)))

    def _errors(self, found: np.ndarray, truth: np.ndarray) -> list[float] | None:
        valid = np.isfinite(truth) & (truth >= self.min_depth) & (truth <= self.max_depth)
        if not valid.any():
            return None
        found, truth = found[valid], truth[valid]
        if self.median_scaling:
            found = found * (np.median(truth) / max(np.median(found), np.finfo(np.float64).tiny))
        return depth_errors(np.clip(found, self.min_depth, self.max_depth), truth)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the means over the samples that have a valid pixel."""
        rows = [r['values'] for r in drop_repeats(results) if r['values'] is not None]
        # fsum: the value must not depend on the order in which ranks deliver samples.
        means = [math.fsum(column) / len(rows) for column in zip(*rows)] if rows else [math.nan] * len(NAMES)
        return dict(zip(NAMES, means))


def depth_errors(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return the seven values of one sample, in the order of ``NAMES``.

    Args:
        found (np.ndarray): Predicted depth ``(P,)`` of the valid pixels, above 0.
        truth (np.ndarray): True depth ``(P,)``, above 0, in the same unit.
    """
    error = found - truth
    ratio = np.maximum(found / truth, truth / found)
    return [
        float(np.sqrt(np.mean(error**2))),
        float(np.mean(np.abs(error))),
        float(np.mean(np.abs(error) / truth)),
        float(np.mean(error**2 / truth)),
        *(float(np.mean(ratio < 1.25**power)) for power in (1, 2, 3)),
    ]
