# The same in an iteration-based loop, with a validation every 10 iterations.
_base_ = ['./tiny_exact.py']
train_dataloader = dict(sampler=dict(infinite=True))
train_cfg = dict(_delete_=True, type='mmckpt.IterBasedTrainLoop', max_iters=40, val_interval=10)
log_processor = dict(by_epoch=False)
