# The exact run under FSDP2: weights, gradients and optimizer are in shards on all ranks.
_base_ = ['./tiny_flexible.py']
custom_imports = dict(imports=['tiny_project', 'tiny_shards'])
strategy = dict(type='FailingStrategy', units=['Linear'])
# EMAHook copies the model, which sharded ones refuse.
custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='acc', min_delta=0., patience=50),
    dict(type='mmckpt.DetailedLossLogHook', interval=4),
    dict(type='WriteStart'),
]
