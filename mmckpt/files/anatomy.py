"""Which part of a checkpoint is what, whoever wrote it."""

from __future__ import annotations

import re
from typing import Any

from mmckpt.files.hand_written_parts import hand_written_parts
from mmckpt.files.lightning_parts import lightning_parts
from mmckpt.files.parts import Anatomy, Best, count, is_weights, listed, names_in, number, states_in

__all__ = ['Anatomy', 'Best', 'anatomy', 'is_weights', 'number']


def anatomy(tree: Any) -> Anatomy:
    """Find the parts of a checkpoint by its keys.

    Args:
        tree (Any): What :func:`mmckpt.files.open_file` found, or a loaded checkpoint.

    Example:
        >>> import torch
        >>> found = anatomy({'model': {'w': torch.ones(1)}, 'epoch': 3, 'best_pck': 0.8})
        >>> found.form, found.weights_at, found.epoch, found.best
        ('hand-written', 'model', 3, {'pck': Best(score=0.8, path='')})
    """
    if not isinstance(tree, dict):
        return Anatomy('unknown')
    weights, meta = tree.get('state_dict'), tree.get('meta')
    named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if named and any(key in tree for key in ('pytorch-lightning_version', 'lightning_version')):
        return lightning_parts(tree)
    if named and isinstance(meta, dict):
        old = 'mmcv_version' in meta and 'mmengine_version' not in meta and 'message_hub' not in tree
        return _mmcv(tree, meta) if old else _mmengine(tree, meta)
    return hand_written_parts(tree)


def _mmengine(tree: dict, meta: dict) -> Anatomy:
    found = Anatomy('MMEngine', tree['state_dict'], 'state_dict')
    ema = tree.get('ema_state_dict')
    if is_weights(ema):
        # MMEngine swaps the two when it saves: what is called averaged here are the model's own.
        own = {key[7:]: value for key, value in ema.items() if key.startswith('module.')}
        found.raw = {**found.weights, **own}
    found.optimizers, found.optimizer_names = states_in(tree.get('optimizer')), names_in(tree.get('optimizer'))
    found.schedulers = listed(tree.get('param_schedulers'))
    found.epoch, found.iter = count(meta.get('epoch')), count(meta.get('iter'))
    hub = tree.get('message_hub')
    info = hub.get('runtime_info', {}) if isinstance(hub, dict) else {}
    for key, value in info.items() if isinstance(info, dict) else []:
        score = number(value) if isinstance(key, str) and key.startswith('best_score') else None
        if score is not None:
            path = str(info.get(key.replace('score', 'ckpt', 1), ''))
            # A single metric has its name in the name of the file alone.
            file = re.search(r'best_(.+?)_(epoch|iter)_\d+', path)
            name = key[len('best_score'):].lstrip('_') or (file.group(1) if file else 'save_best')
            found.best[name] = Best(score, path)
    if len(found.best) > 1:
        found.best.pop('save_best', None)
    own = tree.get('mmckpt')
    found.callbacks = own.get('hooks', {}) if isinstance(own, dict) and isinstance(own.get('hooks'), dict) else {}
    found.stopping = {k: v for k, v in found.callbacks.get('EarlyStoppingHook', {}).items() if k != 'version'}
    _take_meta(found, tree, meta)
    known = {'meta', 'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'message_hub', 'mmckpt'}
    found.rest = [str(key) for key in tree if key not in known]
    return found


def _mmcv(tree: dict, meta: dict) -> Anatomy:
    found = Anatomy('mmcv 1.x', tree['state_dict'], 'state_dict', optimizers=states_in(tree.get('optimizer')),
                    epoch=count(meta.get('epoch')), iter=count(meta.get('iter')))
    messages = meta.get('hook_msgs')
    if isinstance(messages, dict) and number(messages.get('best_score')) is not None:
        path = str(messages.get('best_ckpt', ''))
        name = re.search(r'best_(.+?)_(epoch|iter)_\d+', path)
        found.best[name.group(1) if name else 'save_best'] = Best(float(number(messages['best_score']) or 0), path)
    own = {key: value for key, value in found.weights.items() if key.startswith('ema_')}
    if own:
        # mmcv's hook keeps the averages as buffers of the model: ema_backbone_conv_weight.
        names = {'ema_' + key.replace('.', '_'): key for key in found.weights if not key.startswith('ema_')}
        found.averaged = {names[key]: value for key, value in own.items() if key in names}
        found.weights = {key: value for key, value in found.weights.items() if key not in own}
    _take_meta(found, tree, meta)
    found.rest = [str(key) for key in tree if key not in ('meta', 'state_dict', 'optimizer')]
    return found


def _take_meta(found: Anatomy, tree: dict, meta: dict) -> None:
    text = meta.get('cfg', meta.get('config'))
    found.config = text if isinstance(text, str) else None
    found.versions = {key[:-8]: str(meta[key]) for key in meta
                      if isinstance(key, str) and key.endswith('_version') and isinstance(meta[key], str)}
