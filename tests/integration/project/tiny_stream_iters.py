# The same in an iteration-based loop.
_base_ = ['./tiny_stream.py']
train_cfg = dict(_delete_=True, type='mmckpt.IterBasedTrainLoop', max_iters=40, val_interval=10)
log_processor = dict(by_epoch=False)
