# Which checkpoints are kept when two data sets judge them?
#
#     python tools/quick_check.py configs/depth_topk/unet_two_validations.py     # do the monitored metrics exist?
#     python tools/train.py configs/depth_topk/unet_two_validations.py
#
# 40 s on 2 cores; expect three files by depth-abs_rel0 (the left border; 0.094 to 0.099, of epochs 14, 19 and 20)
# and three by the loss of both borders (1.66 to 1.69), of which epoch 18 is the best. With a metric that does not
# exist (--cfg-options default_hooks.checkpoint.save_best.0.metric=depth-abs_rel2) both commands name those that do.
# One picture is too little to learn depth from: taking the nearest of the 40 measured points gives 0.045 there. What
# is shown is which checkpoints are kept, not a depth net.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.motorcycle import *  # noqa: F403
    from .._base_.default_runtime import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'two_validations'
work_dir = f'work_dirs/{date}_depth_topk_{description}'

# model: depth from colours and 40 measured points
model = dict(type='DepthUNet', in_channels=4, data_preprocessor=dict(type='ImgDataPreprocessor'))

# data: _base_/datasets/motorcycle.py, validated on both borders of the picture
val_dataloader = [
    dict(
        batch_size=4,
        num_workers=0,
        persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='MotorcycleDepthDataset', columns=columns, test_mode=True, pipeline=val_pipeline))  # noqa: F405
    for columns in ((0, 64), (306, 370))
]

# schedule
train_cfg = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=20, val_interval=1)
# depth-abs_rel0 is that of the left border, depth-abs_rel1 that of the right one
val_cfg = dict(type='mmckpt.MultiValLoop', metric_name='depth-{metric}{index}')
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-2))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=20, convert_to_iter_based=True)]

# hooks
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook',
        interval=-1,
        save_last=False,
        save_best=[
            dict(metric='depth-abs_rel0', rule='less', keep=3,
                 filename='depth_e{epoch:02d}_abs_rel{depth-abs_rel0:.4f}'),
            dict(metric='loss', rule='less', keep=3),
        ]),
    logger=dict(type='LoggerHook', interval=10))
custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.TrainingMonitorHook'),
]
