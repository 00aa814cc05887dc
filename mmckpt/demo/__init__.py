"""Small real workloads for the example configs; nothing else in mmckpt imports them."""

from mmckpt.demo.coco import CocoKeypointDataset
from mmckpt.demo.digits import DigitsKeypointDataset
from mmckpt.demo.keypoint_net import KeypointNet
from mmckpt.demo.transforms import (
    GenerateHeatmap,
    PackKeypointInputs,
    PhotometricJitter,
    RandomFlipKeypoints,
    RandomScaleShift,
    TopdownCrop,
)
from mmckpt.demo.visualization_hook import KeypointVisualizationHook

__all__ = [
    'CocoKeypointDataset', 'DigitsKeypointDataset', 'GenerateHeatmap', 'KeypointNet',
    'KeypointVisualizationHook', 'PackKeypointInputs', 'PhotometricJitter', 'RandomFlipKeypoints',
    'RandomScaleShift', 'TopdownCrop',
]
