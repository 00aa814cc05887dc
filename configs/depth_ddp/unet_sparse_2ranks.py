# How does a depth net train on several ranks, with loss terms, clipping and schedule all in view?
#
#     bash tools/dist_train.sh configs/depth_ddp/unet_sparse_2ranks.py 2              # gloo without a GPU
#     bash tools/dist_train.sh configs/depth_ddp/unet_sparse_2ranks.py 2 --resume     # after a stop
#
# 20 epochs in a minute on 2 cores; expect abs_rel of 0.12 and delta1 of 0.83 (untrained: 0.25 and 0.42), files of
# epochs 5, 10, 15 and 20 and the best. A file of two ranks resumes on one, and the other way round. One picture is too
# little to learn depth from: the nearest of the 40 measured points gives 0.03. What is shown is the training's safety.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.motorcycle import *  # noqa: F403
    from .._base_.default_runtime import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'unet_sparse'
work_dir = f'work_dirs/{date}_depth_ddp_{description}'

# model: colours, sparse depth and the mask of holes; total = adepth + rdepth + 0.5 rgrad, each term in the log
model = dict(
    type='DepthUNet',
    in_channels=5,
    loss_weights=(1.0, 1.0, 0.5),
    data_preprocessor=dict(type='ImgDataPreprocessor'))

# data: _base_/datasets/motorcycle.py, and a channel that tells holes
channels = ('rgb', 'sparse', 'hole')
train_pipeline[-1].update(channels=channels)  # noqa: F405
val_pipeline[-1].update(channels=channels)  # noqa: F405
# Of a rank: two make 8.
train_dataloader.update(batch_size=4)  # noqa: F405
train_dataloader['dataset']['dataset'].update(pipeline=train_pipeline)  # noqa: F405
# Seven windows: the last batch of one rank is smaller, and metrics are still those of one rank.
val_dataloader.update(batch_size=2)  # noqa: F405
val_dataloader['dataset'].update(pipeline=val_pipeline)  # noqa: F405
test_dataloader = val_dataloader  # noqa: F405

# schedule
train_cfg = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-2),
    # Optional; with it, train/grad_norm is in the logs.
    clip_grad=dict(max_norm=5.0))
param_scheduler = [dict(type='StepLR', by_epoch=True, step_size=8, gamma=0.3)]

# hooks
default_hooks = dict(
    checkpoint=dict(type='mmckpt.CheckpointHook', interval=5, save_best='abs_rel'),
    logger=dict(type='LoggerHook', interval=10))
custom_hooks = [
    # One set of BN statistics for all ranks, so that they validate one net, the one that is saved.
    dict(type='SyncBuffersHook'),
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=10),
]
