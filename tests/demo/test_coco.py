"""Any COCO key-point set: reading it, cropping, training and evaluating on it."""

from __future__ import annotations

import json
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tiny_coco import NAMES, SIGMAS

from mmckpt.demo.coco import CocoKeypointDataset, flip_partners
from mmckpt.demo.keypoint_net import KeypointNet, add_predictions
from mmckpt.evaluation import KeypointAP

CONFIGS = Path(__file__).parents[2] / 'configs'
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='TopdownCrop', input_size=(96, 128)),
    dict(type='GenerateHeatmap', heatmap_size=(48, 64)),
    dict(type='PackKeypointInputs'),
]


def tiny(root, split, **kwargs):
    with DefaultScope.overwrite_default_scope('mmckpt'):
        return CocoKeypointDataset(ann_file=f'{split}.json', data_root=str(root), data_prefix=dict(img=split),
                                   **{'pipeline': PIPELINE, **kwargs})


def rewrite(root, tmp_path, change):
    content = json.loads((root / 'val.json').read_text())
    change(content)
    (tmp_path / 'val.json').write_text(json.dumps(content))
    return tmp_path


def test_one_sample_for_each_labelled_instance_and_none_for_crowds(coco_root):
    data = tiny(coco_root, 'val', pipeline=[])
    assert len(data) == 9
    content = json.loads((coco_root / 'val.json').read_text())
    for i in range(9):
        sample, annotation = data[i], content['annotations'][i]
        assert (sample['img_id'], sample['id']) == (annotation['image_id'], annotation['id'])
        assert mmcv.imread(sample['img_path']) is not None
        x, y, width, height = annotation['bbox']
        np.testing.assert_allclose(sample['bbox'], [x, y, x + width, y + height], rtol=1e-5)
        np.testing.assert_allclose(
            np.column_stack([sample['keypoints'], sample['keypoints_visible']]).ravel(),
            annotation['keypoints'], rtol=1e-5)


def test_metainfo_describes_the_key_points_of_the_file(coco_root):
    meta = tiny(coco_root, 'val', metainfo=dict(sigmas=SIGMAS)).metainfo
    assert meta['keypoint_names'] == NAMES
    assert meta['flip_indices'] == [1, 0, 2, 4, 3]
    assert meta['skeleton'] == [[0, 1], [0, 2], [1, 2]]
    assert meta['sigmas'] == SIGMAS


def test_seventeen_key_points_get_cocos_sigmas(coco_root, tmp_path):
    def widen(content):
        content['categories'][0]['keypoints'] = [f'point {i}' for i in range(17)]
        for annotation in content['annotations']:
            annotation['keypoints'] = [1, 1, 2] * 17

    root = rewrite(coco_root, tmp_path, widen)
    sigmas = tiny(root, 'val', pipeline=[]).metainfo['sigmas']
    assert len(sigmas) == 17
    assert (sigmas[0], sigmas[-1]) == pytest.approx((0.026, 0.089))


def test_heat_maps_of_the_truth_decode_to_the_annotations(coco_root):
    class Oracle(KeypointNet):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return add_predictions(torch.stack([s.gt_fields.heatmaps for s in data_samples]), data_samples)

    data = tiny(coco_root, 'val')
    model, metric = Oracle(num_keypoints=5), KeypointAP(sigmas=SIGMAS, ann_file=str(coco_root / 'val.json'))
    for i in range(len(data)):
        found = model(None, [data[i]['data_samples']], mode='predict')[0]
        visible = found.gt_instances.keypoints_visible[0] > 0
        off = np.abs(found.pred_instances.keypoints - found.gt_instances.keypoints)[0][visible]
        cell = (found.input_box[2] - found.input_box[0]) / 48
        assert off.max() < 0.25 * cell
        metric.process(None, [found.to_dict()])
    assert metric.evaluate(size=len(data))['AP'] == pytest.approx(1.0)


def test_an_epoch_of_the_coco_config_trains_and_evaluates(coco_root, tmp_path, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', f'{coco_root}/')
    config = Config.fromfile(CONFIGS / 'pose/coco_keypoints.py')
    config.work_dir = str(tmp_path)
    config.experiment_name = tmp_path.name
    config.model.num_keypoints = 5
    config.train_cfg.max_epochs = 1
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        folder = 'train' if split == 'train' else 'val'
        dataset = loader.dataset.get('dataset') or loader.dataset
        assert dataset.data_root == f'{coco_root}/'
        loader.update(batch_size=8, num_workers=0)
        dataset.update(
            ann_file=f'{folder}.json', data_prefix=dict(img=folder), metainfo=dict(sigmas=SIGMAS))
    runner = Runner.from_cfg(config)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == 3
    assert any(not torch.equal(value, before[name]) for name, value in runner.model.state_dict().items())
    assert (tmp_path / 'epoch_1.pth').is_file()
    scalars = runner.message_hub.log_scalars
    assert 0 <= scalars['val/AP'].current() <= 1 and 0 <= scalars['val/PCK'].current() <= 1


@pytest.mark.parametrize('names, partners', [
    (['nose', 'left_eye', 'right_eye'], [0, 2, 1]),
    (['L', 'R'], [0, 1]),
    (['tail_right', 'tail_left'], [1, 0]),
    (['left_horn', 'mouth'], [0, 1]),
])
def test_left_and_right_are_partners_where_both_exist(names, partners):
    assert flip_partners(names) == partners


def test_a_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'val\.json.*data_root'):
        tiny(tmp_path, 'val')


def test_a_file_without_key_points_is_refused(coco_root, tmp_path):
    root = rewrite(coco_root, tmp_path, lambda content: content['categories'][0].pop('keypoints'))
    with pytest.raises(ValueError, match='found 0 different lists'):
        tiny(root, 'val')


def test_a_file_without_usable_annotations_is_refused(coco_root, tmp_path):
    def hide(content):
        for annotation in content['annotations']:
            annotation['keypoints'] = [0] * 15

    root = rewrite(coco_root, tmp_path, hide)
    with pytest.raises(ValueError, match='found 11 annotations and none'):
        tiny(root, 'val')


def test_sigmas_of_the_wrong_number_are_refused_before_training(coco_root):
    with pytest.raises(ValueError, match=r"metainfo\['sigmas'\].*5 key points, found 2"):
        tiny(coco_root, 'val', metainfo=dict(sigmas=[0.1, 0.1]))
