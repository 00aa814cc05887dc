"""Small real workloads for the example configs; nothing else in mmckpt imports them."""

from mmckpt.demo.coco import CocoKeypointDataset
from mmckpt.demo.digits import DigitsKeypointDataset
from mmckpt.demo.distill_net import SelfDistilledKeypointNet
from mmckpt.demo.episodic_net import EpisodicKeypointNet
from mmckpt.demo.episodic_sampler import EpisodeSampler
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
    'CocoKeypointDataset', 'DigitsKeypointDataset', 'EpisodeSampler', 'EpisodicKeypointNet', 'GenerateHeatmap',
    'KeypointNet', 'KeypointVisualizationHook', 'PackKeypointInputs', 'PhotometricJitter', 'RandomFlipKeypoints',
    'RandomScaleShift', 'SelfDistilledKeypointNet', 'TopdownCrop',
]
