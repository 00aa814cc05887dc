# The exact run under MMEngine's FlexibleRunner; a strategy in `strategy=` replaces the one of its choice.
_base_ = ['./tiny_exact.py']
runner_type = 'FlexibleRunner'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
