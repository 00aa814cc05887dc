"""One rank of a training under DeepSpeedStrategy: ``deepspeed_driver.py WORK_DIR STAGE [KILL_AT|resume]``."""

import os
import sys
from pathlib import Path

import torch.distributed as dist
from mmengine.config import Config

from mmckpt.cli.config import build_runner

PROJECT = Path(__file__).with_name('project')


def main(work_dir, stage, how=''):
    # Here, for pytest looks into this file for examples where there is no DeepSpeed.
    import deepspeed

    deepspeed.init_distributed(dist_backend='gloo')
    cfg = Config.fromfile(PROJECT / 'tiny_flexible.py')
    cfg.work_dir, cfg.launcher = work_dir, 'pytorch'
    cfg.train_dataloader.batch_size = 16
    # Its engine steps by itself; EMAHook wants a module of torch.
    cfg.optim_wrapper = dict(type='DeepSpeedOptimWrapper', optimizer=dict(type='AdamW', lr=3e-3))
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=.1, by_epoch=False, end=8)]
    cfg.strategy = dict(type='DeepSpeedStrategy', zero_optimization=dict(stage=int(stage)))
    cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1, save_best='loss', max_keep_ckpts=2)
    cfg.custom_hooks = [dict(type='mmckpt.RNGStateHook'), dict(type='mmckpt.ValLossHook')]
    cfg.resume = how == 'resume'
    if how.isdigit():
        cfg.custom_hooks.append(dict(type='KillHook', event='after_train_iter', nth=int(how)))
    build_runner(cfg).train()
    dist.destroy_process_group()


if __name__ == '__main__':
    sys.path.insert(0, str(PROJECT))
    main(*sys.argv[1:])
    # torch 2.13 aborts now and then when an interpreter ends after gloo.
    os._exit(0)
