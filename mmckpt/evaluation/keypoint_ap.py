"""Average precision of key points by object keypoint similarity (OKS)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmckpt.evaluation.keypoint_samples import as_array, drop_repeats, sample_key
from mmckpt.extras import import_extra
from mmckpt.registry import METRICS


@METRICS.register_module()
class KeypointAP(BaseMetric):
    """COCO's key-point AP, AP50, AP75 and AR (OKS 0.50 to 0.95), computed by pycocotools.

    OKS depends on the sigmas: values are comparable only where they are the
    same. As in COCO, results are -1 where no instance has a labelled key point.

    Data samples are laid out as in MMPose: ``pred_instances`` with
    ``keypoints`` ``(N, K, 2)`` and ``keypoint_scores`` ``(N, K)`` (and
    ``bbox_scores`` ``(N,)`` where a detector made the boxes); ``gt_instances``
    with ``keypoints``, ``keypoints_visible`` ``(N, K)``, ``bboxes`` ``(N, 4)``
    as x1 y1 x2 y2 and ``areas`` ``(N,)``; ``img_id`` and ``id``.

    Args:
        sigmas (Sequence[float], optional): One per key point. Defaults to None:
            those of the data set's ``metainfo``.
        ann_file (str, optional): COCO annotation file to evaluate against, so
            that crowds and missed instances count as in COCO. Defaults to None:
            the ground truth in the data samples.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to 'cpu'.
        prefix (str, optional): ``'coco'`` makes ``coco/AP``. Defaults to None.

    Raises:
        ImportError: If pycocotools is missing (at construction).
        ValueError: If neither ``sigmas`` nor the data set gives one sigma for
            each key point, or there is nothing to evaluate.

    Example:
        >>> metric = KeypointAP(sigmas=[0.08, 0.08])
        >>> points, shown = [[[1, 1], [9, 9]]], [[1, 1]]
        >>> truth = dict(keypoints=points, keypoints_visible=shown, bboxes=[[0, 0, 10, 10]], areas=[100])
        >>> found = dict(keypoints=points, keypoint_scores=[[1, 1]])
        >>> metric.process(None, [dict(img_id=1, id=1, pred_instances=found, gt_instances=truth)])
        >>> {name: round(value, 6) for name, value in metric.evaluate(size=1).items()}
        {'AP': 1.0, 'AP50': 1.0, 'AP75': 1.0, 'AR': 1.0}
    """

    # An empty prefix, unlike None, also spares the user a warning of BaseMetric.
    default_prefix = ''

    def __init__(self,
                 sigmas: Sequence[float] | None = None,
                 ann_file: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        import_extra('pycocotools.cocoeval')
        self.sigmas = None if sigmas is None else [float(s) for s in sigmas]
        self.ann_file = ann_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce one batch to plain arrays; called by MMEngine's evaluator."""
        for sample in data_samples:
            found, truth = sample['pred_instances'], sample['gt_instances']
            scores = as_array(found['keypoint_scores']).mean(axis=-1)
            if 'bbox_scores' in found:
                scores = scores * as_array(found['bbox_scores'])
            self.results.append(dict(
                key=sample_key(sample),
                img_id=sample.get('img_id'),
                category_id=sample.get('category_id', 1),
                keypoints=as_array(found['keypoints']),
                keypoint_scores=as_array(found['keypoint_scores']),
                scores=scores,
                truth={name: as_array(truth[name])
                       for name in ('keypoints', 'keypoints_visible', 'bboxes', 'areas')}))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return ``AP``, ``AP50``, ``AP75`` and ``AR``."""
        results = _number_images(drop_repeats(results))
        if not results:
            raise ValueError(
                'expected at least one sample to compute AP from, found none: is the data set empty?')
        sigmas = self._checked_sigmas(results[0]['keypoints'].shape[1])
        coco = import_extra('pycocotools.coco')
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO(self.ann_file)
            if self.ann_file is None:
                truth.dataset = _coco_ground_truth(results)
                truth.createIndex()
            return evaluate_oks(truth, _coco_detections(results), sigmas)

    def _checked_sigmas(self, num_keypoints: int) -> list[float]:
        sigmas = self.sigmas if self.sigmas is not None else (self.dataset_meta or {}).get('sigmas')
        if sigmas is None or len(sigmas) != num_keypoints:
            raise ValueError(
                f'expected {num_keypoints} OKS sigmas, one for each key point, found {sigmas}; '
                "pass KeypointAP(sigmas=[...]) or put 'sigmas' into the data set's metainfo")
        return [float(s) for s in sigmas]


def evaluate_oks(truth: Any, detections: list[dict], sigmas: Sequence[float]) -> dict[str, float]:
    """Run pycocotools' key-point evaluation; it prints its table.

    Args:
        truth (pycocotools.coco.COCO): Ground truth.
        detections (list[dict]): COCO results: ``image_id``, ``category_id``,
            ``keypoints`` (3K numbers) and ``score``.
        sigmas (Sequence[float]): One per key point.

    Returns:
        dict[str, float]: ``AP``, ``AP50``, ``AP75``, ``AR``.
    """
    evaluation = import_extra('pycocotools.cocoeval').COCOeval(truth, truth.loadRes(detections), 'keypoints')
    evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats = evaluation.stats
    return dict(AP=float(stats[0]), AP50=float(stats[1]), AP75=float(stats[2]), AR=float(stats[5]))


def _number_images(results: list[dict]) -> list[dict]:
    """Give a picture of its own to every sample that names none."""
    return [
        {**r, 'img_id': f'sample {i}'} if r['img_id'] is None else r for i, r in enumerate(results)]


def _coco_ground_truth(results: list[dict]) -> dict:
    annotations: list[dict] = []
    for result in results:
        truth = result['truth']
        for points, visible, box, area in zip(
                truth['keypoints'], truth['keypoints_visible'], truth['bboxes'], truth['areas']):
            x1, y1, x2, y2 = (float(v) for v in box)
            annotations.append(dict(
                # From 1 on: pycocotools takes a match with annotation 0 for no match.
                id=len(annotations) + 1,
                image_id=result['img_id'],
                category_id=result['category_id'],
                keypoints=_triplets(points, visible),
                num_keypoints=int(np.count_nonzero(visible)),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=float(area),
                iscrowd=0))
    image_ids = dict.fromkeys(r['img_id'] for r in results)
    categories = dict.fromkeys(r['category_id'] for r in results)
    return dict(
        images=[dict(id=i) for i in image_ids],
        categories=[dict(id=c, name=str(c)) for c in categories],
        annotations=annotations)


def _coco_detections(results: list[dict]) -> list[dict]:
    return [
        dict(image_id=r['img_id'], category_id=r['category_id'],
             keypoints=_triplets(points, scores), score=float(score))
        for r in results
        for points, scores, score in zip(r['keypoints'], r['keypoint_scores'], r['scores'])]


def _triplets(points: np.ndarray, third: np.ndarray) -> list[float]:
    """Interleave ``(K, 2)`` and ``(K,)`` to COCO's flat x, y, v."""
    return np.concatenate([points, third[:, None]], axis=1).astype(np.float64).ravel().tolist()
