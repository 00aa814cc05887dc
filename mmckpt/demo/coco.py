"""Any data set in COCO's key-point format, one sample for each labelled person or object."""

from __future__ import annotations

import contextlib
import io
import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmckpt.extras import import_extra
from mmckpt.registry import DATASETS


@DATASETS.register_module()
class CocoKeypointDataset(BaseDataset):
    """Top-down samples of a COCO key-point annotation file.

    One sample for each annotation that has a box and at least one labelled key
    point and is no crowd. ``metainfo`` gets ``keypoint_names`` and
    ``skeleton`` (numbers from 0) from the file's category, ``flip_indices``
    from names that differ in "left" and "right" only, and COCO's own OKS
    ``sigmas`` where there are 17 key points; what is passed as ``metainfo``
    goes first.

    Args:
        ann_file (str): Annotation file, relative to ``data_root``.
        data_root (str): Folder of the data set.
        data_prefix (dict): ``dict(img='train2017/')``: where the pictures lie
            in ``data_root``.
        metainfo (dict, optional): ``sigmas`` (one per key point),
            ``flip_indices``, ``keypoint_names``, ``skeleton``.
        pipeline (list): Transforms; the first one loads ``img_path``.
        **kwargs: Of ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError: If the annotation file does not exist.
        ValueError: If the file's categories have no key points, or differ in
            them, if nothing in it can be used, or if a list in ``metainfo``
            does not have one entry per key point.
        ImportError: If pycocotools is missing.
    """

    METAINFO = dict(dataset_name='coco_keypoints')

    def __init__(self,
                 ann_file: str,
                 pipeline: list,
                 data_root: str = '',
                 data_prefix: Mapping[str, str] = {'img': ''},
                 metainfo: Mapping | None = None,
                 **kwargs) -> None:
        super().__init__(ann_file=ann_file, pipeline=pipeline, data_root=data_root,
                         data_prefix=dict(data_prefix), metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file; called once by ``full_init``."""
        coco = _read_annotations(self.ann_file)
        self._metainfo = {**_describe_keypoints(coco, self.ann_file), **self._metainfo}
        _check_lengths(self._metainfo)
        samples = [self._sample(coco, annotation) for annotation in coco.loadAnns(coco.getAnnIds())
                   if _is_usable(annotation)]
        if not samples:
            raise ValueError(
                f"expected annotations with labelled key points and a box in '{self.ann_file}', "
                f'found {len(coco.anns)} annotations and none of this kind')
        return samples

    def _sample(self, coco: Any, annotation: dict) -> dict:
        picture = coco.imgs[annotation['image_id']]
        points = np.array(annotation['keypoints'], dtype=np.float32).reshape(-1, 3)
        x, y, width, height = annotation['bbox']
        return dict(
            img_path=osp.join(self.data_prefix['img'], picture['file_name']),
            keypoints=points[:, :2],
            keypoints_visible=points[:, 2],
            bbox=np.array([x, y, x + width, y + height], dtype=np.float32),
            area=float(annotation.get('area', width * height)),
            category_id=annotation['category_id'],
            flip_indices=self._metainfo['flip_indices'],
            img_id=annotation['image_id'],
            id=annotation['id'])


def _read_annotations(path: str) -> Any:
    if not osp.isfile(path):
        raise FileNotFoundError(
            f"expected a COCO key-point annotation file at '{path}', found none; "
            'set data_root and the annotation files at the top of the config')
    with contextlib.redirect_stdout(io.StringIO()):
        return import_extra('pycocotools.coco').COCO(path)


def _is_usable(annotation: dict) -> bool:
    width, height = annotation.get('bbox', (0, 0, 0, 0))[2:]
    labelled = any(annotation.get('keypoints', [])[2::3])
    return labelled and width > 0 and height > 0 and not annotation.get('iscrowd', 0)


def _describe_keypoints(coco: Any, path: str) -> dict:
    categories = [c for c in coco.cats.values() if c.get('keypoints')]
    kinds = {tuple(c['keypoints']) for c in categories}
    if len(kinds) != 1:
        raise ValueError(
            f"expected categories that all have the same 'keypoints' in '{path}', "
            f'found {len(kinds)} different lists; split the file by category')
    names = list(categories[0]['keypoints'])
    # COCO counts the ends of its skeleton from 1.
    skeleton = [[a - 1, b - 1] for a, b in categories[0].get('skeleton', [])]
    description = dict(keypoint_names=names, skeleton=skeleton, flip_indices=flip_partners(names))
    if len(names) == 17:
        sigmas = import_extra('pycocotools.cocoeval').Params(iouType='keypoints').kpt_oks_sigmas
        description['sigmas'] = [float(s) for s in sigmas]
    return description


def flip_partners(names: Sequence[str]) -> list[int]:
    """Return, for each key point, the number of its mirror image; its own where there is none.

    Example:
        >>> flip_partners(['nose', 'left_eye', 'right_eye', 'left_horn'])
        [0, 2, 1, 3]
    """
    mirrored = [n.replace('left', '#').replace('right', 'left').replace('#', 'right') for n in names]
    return [names.index(m) if m in names else i for i, m in enumerate(mirrored)]


def _check_lengths(metainfo: Mapping) -> None:
    expected = len(metainfo['keypoint_names'])
    for name in ('sigmas', 'flip_indices'):
        found = metainfo.get(name)
        if found is not None and len(found) != expected:
            raise ValueError(
                f"expected one entry in metainfo['{name}'] for each of the {expected} key points, "
                f'found {len(found)}: {list(found)}')
