# A training as an existing OpenMMLab project has it: stock hooks only, no seed; --safe is tried on it.
custom_imports = dict(imports=['tiny_project'])
model = dict(type='TinyNet')
train_dataloader = dict(
    batch_size=64, num_workers=0, dataset=dict(type='TinyDigits', train=True),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=50, num_workers=0, dataset=dict(type='TinyDigits', train=False, test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='TinyAccuracy')
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=3e-3))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=2),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='acc', rule='greater'))
custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc', rule='greater', patience=9)]
