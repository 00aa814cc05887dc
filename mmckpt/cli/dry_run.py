"""``mmckpt train --resume-dry-run``: what a resume would meet, without starting it."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from mmckpt.cli.config import build_runner
from mmckpt.cli.resume import ResumePoint, resume_from
from mmckpt.hooks.facts import batch_size
from mmckpt.hooks.preflight import preflight
from mmckpt.state.preflight import Preflight
from mmckpt.store import load_checkpoint
from mmckpt.store.unit import STATE, is_unit


def dry_run(cfg: Config, point: ResumePoint, file: str | None = None) -> Preflight:
    """Build the parts that a resume would load into, and compare; neither loads nor writes anything.

    Args:
        cfg (Config): The config of the run; changed in place.
        point (ResumePoint): The checkpoint.
        file (str, optional): Where its structure lies, if not there. Defaults to None.

    Returns:
        Preflight: The verdict and its reasons.
    """
    resume_from(cfg, point)
    asked = copy.deepcopy(cfg)
    if cfg.get('visualizer') is not None:
        # A remote backend would open a run.
        cfg.visualizer.pop('vis_backends', None)
    cfg.log_level = 'ERROR'
    with tempfile.TemporaryDirectory(prefix='mmckpt-dry-run-') as cfg.work_dir:
        runner = build_runner(cfg)
        # What is compared is the config as it would train.
        runner.cfg = asked
        _build_parts(runner)
        return preflight(runner, point.path, _load(file or point.path))


def _build_parts(runner: Any) -> None:
    """Do what ``train()`` does before it loads."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    if hasattr(runner, 'strategy'):
        runner.model, *built = runner.strategy.prepare(
            runner.model, optim_wrapper=runner.optim_wrapper, param_scheduler=runner.param_schedulers,
            dispatch_kwargs=dict(epoch_length=len(runner.train_dataloader), max_epochs=runner.max_epochs,
                                 max_iters=runner.max_iters, train_micro_batch_size_per_gpu=batch_size(
                                     runner.train_dataloader)))
        runner.optim_wrapper, runner.param_schedulers = built[0], built[1] if len(built) > 1 else None
        return
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)


def _load(path: str) -> dict:
    if is_unit(path):
        return load_checkpoint(Path(path, STATE))
    # No value of a tensor is looked at: mapped, none is read.
    return CheckpointLoader.load_checkpoint(path, 'cpu') if '://' in path else load_checkpoint(path, mmap=True)
