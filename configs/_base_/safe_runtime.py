# Which hooks make an existing project safe? These. Inherit this file after your own runtime:
#
#     _base_ = ['../_base_/default_runtime.py', '/path/to/mmckpt/configs/_base_/safe_runtime.py']
#
# A config that sets ``custom_hooks`` itself replaces this list: copy the entries into it then.
# ``save_best='auto'`` takes the first metric of your evaluator; name one or several to choose.
default_hooks = dict(
    checkpoint=dict(
        type='mmckpt.CheckpointHook', interval=1, max_keep_ckpts=3, save_last=True, save_best='auto'),
    logger=dict(type='LoggerHook', interval=50))

custom_hooks = [
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.PreemptionHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=50),
]
