# How is a category-agnostic key-point model trained by episodes, killed, and resumed to the bit?
#
#     python tools/train.py configs/pose_episodic/digits_episodic.py
#     python tools/train.py configs/pose_episodic/digits_episodic.py --resume
#     mmckpt evaluate work_dirs/20261124_digits_episodic_one_shot --ckpts best,last
#
# No download: handwritten digits of scikit-learn on photographs of scikit-image. From one picture of a digit
# with its key points, the model finds them on others of that digit. Trained on 0 to 6, it is validated on 7 to 9
# (455 queries in 65 episodes). 30 epochs are 3 minutes of CPU time; expect PCK@0.2 of 0.92, best at epoch 24,
# while the validation loss is best at epoch 29. The key points are of the same five kinds for all digits, and
# photographs and writers are shared: a demonstration, not a benchmark.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.digits_keypoints import *  # noqa: F403
    from .._base_.default_runtime import *  # noqa: F403
    from .._base_.schedules.adamw_20e import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'one_shot'
work_dir = f'work_dirs/{date}_digits_episodic_{description}'

# an episode: pictures of one digit, some to learn its key points from, others to find them on
shots = 1
queries = 7

# model: matching as in POMNet (Xu et al., ECCV 2022)
model = dict(
    type='EpisodicKeypointNet',
    shots=shots,
    queries=queries,
    heatmap_loss_weight=1000.0,
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True))

# data: the digits 0 to 6 to train on, 7 to 9 never seen before the validation
train_dataloader = dict(
    batch_size=shots + queries,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(
        type='ResumableSampler',
        sampler=dict(type='EpisodeSampler', shots=shots, queries=queries)),
    dataset=dict(
        type='DeterministicDataset',
        dataset=dict(
            type='DigitsKeypointDataset',
            split='train',
            labels=[0, 1, 2, 3, 4, 5, 6],
            pipeline=train_pipeline)))  # noqa: F405
val_dataloader = dict(
    batch_size=4 * (shots + queries),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='EpisodeSampler', shots=shots, queries=queries, shuffle=False),
    dataset=dict(
        type='DigitsKeypointDataset',
        split='all',
        labels=[7, 8, 9],
        test_mode=True,
        pipeline=val_pipeline))  # noqa: F405
test_dataloader = val_dataloader

val_evaluator = [dict(type='PCK', threshold=0.2, normalizer='bbox', per_keypoint=True)]
test_evaluator = val_evaluator

# schedule: _base_/schedules/adamw_20e.py, but 30 epochs, and an update of the weights every 4 episodes
max_epochs = 30
train_cfg.update(max_epochs=max_epochs)  # noqa: F405
optim_wrapper.update(accumulative_counts=4)  # noqa: F405
param_scheduler[0].update(end=120)  # noqa: F405
param_scheduler[1].update(T_max=max_epochs)  # noqa: F405

# hooks: the best loss and the best PCK are two files, and PCK alone decides when to stop
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_last=True,
        save_best=[
            dict(metric='PCK', rule='greater', filename='best_pck_e{epoch:03d}_pck{PCK:.4f}_valloss{loss:.4f}'),
            dict(metric='loss', rule='less', filename='best_loss_e{epoch:03d}_valloss{loss:.4f}'),
        ]),
    logger=dict(type='LoggerHook', interval=40))

custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='PCK', rule='greater', patience=10, min_delta=0.002),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=40),
]
