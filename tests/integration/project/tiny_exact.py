# Everything that carries state, saved every 4 iterations, with the parts that resume inside an epoch.
_base_ = ['./tiny_epochs.py']
train_dataloader = dict(
    _delete_=True, batch_size=32, num_workers=0,
    dataset=dict(type='mmckpt.DeterministicDataset', dataset=dict(type='TinyDigits', train=True)),
    sampler=dict(type='mmckpt.ResumableSampler', shuffle=True))
train_cfg = dict(_delete_=True, type='mmckpt.EpochBasedTrainLoop', max_epochs=5, val_interval=1)
optim_wrapper = dict(_delete_=True, type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='AdamW', lr=3e-3),
                     accumulative_counts=3, clip_grad=dict(max_norm=5.0))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
