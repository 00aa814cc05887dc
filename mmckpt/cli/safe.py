"""``--safe``: adds the recommended hooks to a config that does not have them."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmckpt.cli.config import configured_hooks, type_name

_STOCK = {
    'CheckpointHook': ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook),
    'EarlyStoppingHook': ('EarlyStoppingHook', 'mmengine.EarlyStoppingHook', EarlyStoppingHook),
    'EpochBasedTrainLoop': ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop),
    'IterBasedTrainLoop': ('IterBasedTrainLoop', 'mmengine.IterBasedTrainLoop', IterBasedTrainLoop),
    'DefaultSampler': ('DefaultSampler', 'mmengine.DefaultSampler', DefaultSampler),
    'InfiniteSampler': ('InfiniteSampler', 'mmengine.InfiniteSampler', InfiniteSampler),
}
_ADDED = ('RNGStateHook', 'PreemptionHook', 'TrainingMonitorHook', 'DetailedLossLogHook')


def make_safe(cfg: Config) -> list[str]:
    """Put mmckpt's hooks into a config and return one line for each change.

    MMEngine's ``CheckpointHook`` and ``EarlyStoppingHook`` become ours with
    the same arguments; random states, preemption, monitor and loss lines are
    added. The train loop, the sampler and the data set become those that
    resume inside an epoch and draw the same augmentation after a restart.
    Unknown subclasses of ``CheckpointHook``, and a config that turns
    checkpoints off, are left alone, which a line says.

    Args:
        cfg (Config): Changed in place.

    Returns:
        list[str]: What was changed, or left and why.

    Example:
        >>> cfg = Config(dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=5))))
        >>> make_safe(cfg)[0]
        'default_hooks.checkpoint: CheckpointHook -> mmckpt.CheckpointHook (interval=5)'
        >>> cfg.default_hooks.checkpoint
        {'type': 'mmckpt.CheckpointHook', 'interval': 5}
    """
    return [*_make_checkpoints_safe(cfg), *_replace_early_stopping(cfg), *_add_hooks(cfg), *_make_exact(cfg)]


def asks_for_safety(cfg: Config) -> bool:
    """Whether a config inherits ``mmckpt::_base_/safe.py``, which means ``--safe``.

    Example:
        >>> asks_for_safety(Config(dict(mmckpt_safe=True)))
        True
    """
    return bool(cfg.get('mmckpt_safe'))


def _make_checkpoints_safe(cfg: Config) -> list[str]:
    if cfg.get('default_hooks') is None:
        cfg.default_hooks = {}
    hooks = cfg.default_hooks
    if 'checkpoint' not in hooks:
        hooks['checkpoint'] = dict(type='mmckpt.CheckpointHook', interval=1)
        return ['default_hooks.checkpoint: added mmckpt.CheckpointHook (interval=1)']
    hook = hooks['checkpoint']
    if hook is None:
        return ['default_hooks.checkpoint: None is left alone, so nothing is saved; remove the line to save']
    if _is_ours(hook):
        return []
    if _is_stock(hook, 'CheckpointHook'):
        return [_replace('default_hooks.checkpoint', hook)]
    return [f"default_hooks.checkpoint: {_shown_type(hook)} is left alone, since it is not MMEngine's own "
            'CheckpointHook; without mmckpt.CheckpointHook a save is not atomic and a resume not verified']


def _replace_early_stopping(cfg: Config) -> list[str]:
    named = [(f'default_hooks.{name}', hook) for name, hook in cfg.default_hooks.items()]
    named += [(f'custom_hooks[{i}]', hook) for i, hook in enumerate(cfg.get('custom_hooks') or [])]
    return [_replace(place, hook) for place, hook in named if _is_stock(hook, 'EarlyStoppingHook')]


def _add_hooks(cfg: Config) -> list[str]:
    present = {type_name(hook) for hook in configured_hooks(cfg)}
    absent = [name for name in _ADDED if name not in present]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *(dict(type=f'mmckpt.{name}') for name in absent)]
    return [f'custom_hooks: added mmckpt.{name}' for name in absent]


def _make_exact(cfg: Config) -> list[str]:
    """Let the training resume inside an epoch, with the same samples and augmentation."""
    if not cfg.get('train_cfg') or not isinstance(cfg.get('train_dataloader'), dict):
        return []
    changes = _replace_loop(cfg.train_cfg)
    # A loader with a type of its own keeps its place itself; its data may have no index.
    if 'type' not in cfg.train_dataloader:
        changes += [*_replace_sampler(cfg.train_dataloader), *_wrap_dataset(cfg.train_dataloader)]
    return changes


def _replace_loop(train_cfg: Any) -> list[str]:
    by_epoch = train_cfg.get('by_epoch')
    name = {True: 'EpochBasedTrainLoop', False: 'IterBasedTrainLoop'}.get(by_epoch)
    for known in ('EpochBasedTrainLoop', 'IterBasedTrainLoop'):
        name = known if _is_stock(train_cfg, known) else name
    if name is None or (train_cfg.get('type') is not None and not _is_stock(train_cfg, name)):
        return [] if _is_ours(train_cfg) else [
            f'train_cfg: {_shown_type(train_cfg)} is left alone, since it is not a loop of MMEngine; a resume is '
            'exact only where that loop makes it so']
    before = _shown_type(train_cfg) if by_epoch is None else f'by_epoch={by_epoch}'
    # MMEngine refuses a loop type together with by_epoch.
    train_cfg.pop('by_epoch', None)
    train_cfg['type'] = f'mmckpt.{name}'
    return [f'train_cfg: {before} -> mmckpt.{name}']


def _replace_sampler(loader: Any) -> list[str]:
    sampler = loader.get('sampler')
    for name in ('DefaultSampler', 'InfiniteSampler'):
        if _is_stock(sampler, name):
            before = _shown_type(sampler)
            sampler['type'] = 'mmckpt.ResumableSampler'
            if name == 'InfiniteSampler':
                sampler['infinite'] = True
            return [f'train_dataloader.sampler: {before} -> mmckpt.ResumableSampler']
    return []


def _wrap_dataset(loader: Any) -> list[str]:
    dataset = loader.get('dataset')
    if not isinstance(dataset, dict) or type_name(dataset) == 'DeterministicDataset':
        return []
    loader['dataset'] = dict(type='mmckpt.DeterministicDataset', dataset=dataset)
    return [f'train_dataloader.dataset: {_shown_type(dataset)} -> mmckpt.DeterministicDataset around it']


def _replace(place: str, hook: Any) -> str:
    before, name = _shown_type(hook), type_name(hook)
    hook['type'] = f'mmckpt.{name}'
    arguments = ', '.join(f'{key}={value!r}' for key, value in hook.items() if key != 'type')
    return f'{place}: {before} -> mmckpt.{name} ({arguments})'


def _is_stock(hook: Any, name: str) -> bool:
    return isinstance(hook, dict) and hook.get('type') in _STOCK[name]


def _is_ours(hook: Any) -> bool:
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    if isinstance(kind, str):
        return kind.startswith('mmckpt.')
    return getattr(kind, '__module__', '').partition('.')[0] == 'mmckpt'


def _shown_type(hook: Any) -> str:
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    return kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}'
