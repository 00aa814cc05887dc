# A run of 5 epochs with everything that carries state; used by the resume tests.
custom_imports = dict(imports=['tiny_project'])
work_dir = 'work_dirs/tiny'
randomness = dict(seed=3)
model = dict(type='TinyNet')
train_dataloader = dict(
    batch_size=32, num_workers=0, dataset=dict(type='TinyDigits', train=True),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=50, num_workers=0, dataset=dict(type='TinyDigits', train=False, test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='TinyAccuracy')
train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=1)
val_cfg = dict()
test_dataloader, test_evaluator, test_cfg = val_dataloader, val_evaluator, dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=3e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=.1, by_epoch=False, end=8),
    dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=0, threshold=.05, factor=.5),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=4),
    checkpoint=dict(type='mmckpt.CheckpointHook', interval=1, max_keep_ckpts=3, save_best=['acc', 'loss']))
custom_hooks = [
    dict(type='EMAHook', momentum=.02),
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='acc', min_delta=0., patience=50),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=4),
]
