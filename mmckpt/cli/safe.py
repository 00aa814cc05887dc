"""``--safe``: adds the recommended hooks to a config that does not have them."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from mmckpt.cli.config import configured_hooks, type_name

_STOCK = {
    'CheckpointHook': ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook),
    'EarlyStoppingHook': ('EarlyStoppingHook', 'mmengine.EarlyStoppingHook', EarlyStoppingHook),
}
_ADDED = ('RNGStateHook', 'TrainingMonitorHook', 'DetailedLossLogHook')


def make_safe(cfg: Config) -> list[str]:
    """Put mmckpt's hooks into a config and return one line for each change.

    MMEngine's ``CheckpointHook`` and ``EarlyStoppingHook`` become ours with
    the same arguments; random states, monitor and loss lines are added.
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
    return [*_make_checkpoints_safe(cfg), *_replace_early_stopping(cfg), *_add_hooks(cfg)]


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
