# The exact run on a GPU: float16 with a gradient scaler, whose scale grows within the run.
_base_ = ['./tiny_exact.py']
randomness = dict(seed=3, deterministic=True)
optim_wrapper = dict(_delete_=True, type='AmpOptimWrapper', loss_scale=dict(init_scale=256., growth_interval=2),
                     optimizer=dict(type='AdamW', lr=3e-3), accumulative_counts=3, clip_grad=dict(max_norm=5.0))
