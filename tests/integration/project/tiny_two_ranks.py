# The exact run for two ranks: BN statistics differ between them, since nothing synchronises them.
_base_ = ['./tiny_exact.py']
custom_hooks = [
    dict(type='EMAHook', momentum=.02),
    dict(type='mmckpt.RNGStateHook'),
    dict(type='mmckpt.ValLossHook'),
    dict(type='mmckpt.EarlyStoppingHook', monitor='acc', min_delta=0., patience=50),
    dict(type='mmckpt.TrainingMonitorHook'),
    dict(type='mmckpt.DetailedLossLogHook', interval=4),
]
