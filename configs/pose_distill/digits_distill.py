# How is a detector with self-distillation trained safely, whose loss terms lie four orders apart?
#
#     python tools/train.py configs/pose_distill/digits_distill.py
#     python tools/train.py configs/pose_distill/digits_distill.py --resume-from work_dirs/.../best_AP_epoch_25.pth
#
# No download: handwritten digits of scikit-learn on photographs of scikit-image. 30 epochs are 3 min 20 s of CPU
# time; expect AP (OKS, sigma 0.08) of 0.77 after 15, and of 0.85 after 30, with PCK@0.1 of 0.93. The distillation
# terms end at 8e-5 and 5e-5 beside a heat-map loss of 3. Photographs and writers are shared between the splits: a
# demonstration, not a benchmark.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.digits_keypoints import *  # noqa: F403
    from .._base_.default_runtime import *  # noqa: F403
    from .._base_.schedules.adamw_20e import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'self_distillation'
work_dir = f'work_dirs/{date}_digits_distill_{description}'

# model: the second pass of SDPose (Chen et al., CVPR 2024) through one transformer teaches the first
model = dict(
    type='SelfDistilledKeypointNet',
    num_keypoints=5,
    heatmap_loss_weight=1000.0,
    token_loss_weight=2e-3,
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True))

# data: _base_/datasets/digits_keypoints.py

# schedule: _base_/schedules/adamw_20e.py, but 30 epochs, and AP every 5
max_epochs = 30
train_cfg.update(max_epochs=max_epochs, val_interval=5)  # noqa: F405
param_scheduler[1].update(T_max=max_epochs)  # noqa: F405

# hooks
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook',
        interval=10,
        max_keep_ckpts=3,
        save_last=True,
        save_best='AP',
        rule='greater'),
    logger=dict(type='LoggerHook', interval=50))

custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(
        type='mmckpt.TrainingMonitorHook',
        spike=dict(factor=2.0),
        performance_drop=dict(metric='AP', threshold=0.05),
        # Three validations are 15 epochs.
        zero_metric=dict(validations=3)),
    dict(type='mmckpt.DetailedLossLogHook', interval=50),
]
