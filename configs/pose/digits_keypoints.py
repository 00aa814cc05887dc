# How does a key-point detector train safely? This is the reference config of the project.
#
#     python tools/train.py configs/pose/digits_keypoints.py
#
# No download: handwritten digits of scikit-learn on photographs of scikit-image. 20 epochs in less
# than 100 s on 2 cores; expect AP (OKS, sigma 0.08) of 0.73 and PCK@0.1 of 0.86 after the last one.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.digits_keypoints import *  # noqa: F403
    from .._base_.default_runtime import *  # noqa: F403
    from .._base_.models.keypoint_net import *  # noqa: F403
    from .._base_.schedules.adamw_20e import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'baseline'
work_dir = f'work_dirs/{date}_digits_keypoints_{description}'

# model: _base_/models/keypoint_net.py
# data: _base_/datasets/digits_keypoints.py
# schedule: _base_/schedules/adamw_20e.py

# hooks
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_last=True,
        save_best=['AP', 'PCK'],
        rule='greater'),
    logger=dict(type='LoggerHook', interval=20))

custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='PCK', rule='greater', patience=10, min_delta=0.001),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=20),
    dict(type='mmckpt.KeypointVisualizationHook', interval=5),
]
