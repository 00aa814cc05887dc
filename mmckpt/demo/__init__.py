"""Small real workloads for the example configs; nothing else in mmckpt imports them."""

from mmckpt.demo.baskets import HouseholdBasketDataset
from mmckpt.demo.coco import CocoKeypointDataset
from mmckpt.demo.depth_transforms import (
    CutDepthWindow,
    PackDepthInputs,
    RandomBrightness,
    RandomFlipDepth,
    SampleSparseDepth,
)
from mmckpt.demo.depth_unet import DepthUNet
from mmckpt.demo.digits import DigitsKeypointDataset
from mmckpt.demo.distill_net import SelfDistilledKeypointNet
from mmckpt.demo.episodic_net import EpisodicKeypointNet
from mmckpt.demo.episodic_sampler import EpisodeSampler
from mmckpt.demo.keypoint_net import KeypointNet
from mmckpt.demo.motorcycle import MotorcycleDepthDataset
from mmckpt.demo.multi_vae import MultiVAE
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
    'CocoKeypointDataset', 'CutDepthWindow', 'DepthUNet', 'DigitsKeypointDataset', 'EpisodeSampler',
    'EpisodicKeypointNet', 'GenerateHeatmap', 'HouseholdBasketDataset', 'KeypointNet', 'KeypointVisualizationHook',
    'MotorcycleDepthDataset', 'MultiVAE', 'PackDepthInputs', 'PackKeypointInputs', 'PhotometricJitter',
    'RandomBrightness', 'RandomFlipDepth', 'RandomFlipKeypoints', 'RandomScaleShift', 'SampleSparseDepth',
    'SelfDistilledKeypointNet', 'TopdownCrop',
]
