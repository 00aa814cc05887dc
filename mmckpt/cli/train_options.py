"""Options of training as changes of a config; each returns one line for what it changed."""

from __future__ import annotations

import argparse

from mmengine.config import Config
from mmengine.device import get_device

from mmckpt.cli.config import configured_hooks, type_name
from mmckpt.errors import UsageError

_NEED_VALIDATION = ('ValLossHook', 'EarlyStoppingHook')
_PLAIN_OR_AMP = ('OptimWrapper', 'AmpOptimWrapper', 'CpuAmpOptimWrapper')


def disable_validation(cfg: Config) -> list[str]:
    """Take the validation out of a config, and ``save_best``, which would have nothing to judge.

    Example:
        >>> cfg = Config(dict(val_cfg=dict(), default_hooks=dict(
        ...     checkpoint=dict(type='CheckpointHook', interval=1, save_best='AP', rule='greater'))))
        >>> disable_validation(cfg)
        ["--no-validate: nothing to act on for save_best='AP' (taken out)"]
        >>> cfg
        Config (path: None): {'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': 1}}}
    """
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg.pop(key, None)
    idle = []
    for hook in configured_hooks(cfg):
        if isinstance(hook, dict) and hook.get('save_best') is not None:
            idle.append(f"save_best={hook['save_best']!r} (taken out)")
            # A rule without save_best is refused by no one, but means nothing.
            hook.pop('save_best'), hook.pop('rule', None)
        elif type_name(hook) in _NEED_VALIDATION:
            idle.append(type_name(hook))
    return [f"--no-validate: nothing to act on for {', '.join(idle)}"] if idle else []


def enable_amp(cfg: Config) -> list[str]:
    """Let the optimizer wrapper use mixed precision.

    Raises:
        UsageError: If the config has a wrapper of another kind, or several.
    """
    wrapper = cfg.get('optim_wrapper')
    name = type_name(wrapper) or 'OptimWrapper'
    if not isinstance(wrapper, dict) or 'optimizer' not in wrapper or name not in _PLAIN_OR_AMP:
        raise UsageError('--amp needs optim_wrapper=dict(optimizer=...) of type OptimWrapper, but the config '
                         f'has {wrapper}. Set mixed precision in the config instead.')
    if get_device() != 'cpu':
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return ['--amp: AmpOptimWrapper']
    wrapper['type'] = 'mmckpt.CpuAmpOptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    return ['--amp: no accelerator here, the forward pass runs in bfloat16 (mmckpt.CpuAmpOptimWrapper)']


def enable_auto_scale_lr(cfg: Config) -> None:
    """Turn on the scaling of the learning rate that the config describes.

    Raises:
        UsageError: If it describes none.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise UsageError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, where N '
                         'is the total batch size that the learning rate was chosen for; it has '
                         f"auto_scale_lr={cfg.get('auto_scale_lr')}.")
    cfg.auto_scale_lr['enable'] = True


def enable_visualization(cfg: Config, args: argparse.Namespace) -> None:
    """Turn on ``default_hooks.visualization``, which OpenMMLab configs bring.

    Raises:
        UsageError: If the config has no such hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UsageError('--show and --show-dir need default_hooks.visualization in the config, such as '
                         "dict(type='PoseVisualizationHook'); it has "
                         f"{', '.join(cfg.get('default_hooks') or {}) or 'no default_hooks'}.")
    hook.update(enable=True, show=args.show, out_dir=args.show_dir, interval=args.interval)
    if args.show:
        hook['wait_time'] = args.wait_time
