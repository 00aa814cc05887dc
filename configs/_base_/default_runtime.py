# What every config of this project shares: scope, environment, logging, seed.
default_scope = 'mmckpt'

env_cfg = dict(
    cudnn_benchmark=False,
    # 'spawn' would build the data set anew in every worker.
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
log_level = 'INFO'

randomness = dict(seed=0)
load_from = None
resume = False
