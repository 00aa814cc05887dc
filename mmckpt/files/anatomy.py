"""Which part of a checkpoint is what, whoever wrote it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.nodes import ArrayRef, Opaque, TensorRef
from mmckpt.files.values import ValueReader

WEIGHTS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'module', 'weights', 'params', 'generator')
AVERAGED = ('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema_model', 'ema', 'params_ema', 'ema_model_state_dict')
OPTIMIZERS = ('optimizer', 'optimizer_state_dict', 'optim', 'optimizer_state', 'optimizer_states', 'optimizers')
SCHEDULERS = ('lr_scheduler', 'scheduler', 'scheduler_state_dict', 'lr_scheduler_state_dict', 'lr_schedulers',
              'schedulers', 'lr_sched', 'param_schedulers')
_ITERATIONS = ('iter', 'iteration', 'global_step', 'step', 'total_iters', 'n_iter', 'global_iter')
_WAITING = ('early_stopping_counter', 'patience_counter', 'epochs_without_improvement', 'no_improve', 'wait_count',
            'epochs_no_improve', 'early_stop_counter', 'counter', 'bad_epochs')
_CONFIGS = ('config', 'cfg', 'args', 'opt', 'hparams', 'hyper_parameters', 'hyperparameters')


@dataclass(frozen=True)
class Best:
    """The best value of a metric.

    Args:
        score (float): The value.
        path (str): The file that has it, or ''.
    """

    score: float
    path: str = ''


@dataclass
class Anatomy:
    """The parts of a checkpoint.

    Args:
        form (str): ``'MMEngine'``, ``'Lightning'``, ``'mmcv 1.x'``, ``'hand-written'``, ``'weights'`` or
            ``'unknown'``.
        weights (dict): Tensors by name, as the file has them.
        weights_at (str): The key that holds them; '' if the file is nothing else.
        raw (dict or None): Weights of the model in training, where ``weights`` are an average of them.
        averaged (dict or None): Averaged weights, where ``weights`` are those of the model in training.
        optimizers (list[dict]): States of optimizers.
        schedulers (list[dict]): States of schedulers.
        epoch (int or None): Completed epochs.
        iter (int or None): Completed iterations.
        best (dict[str, Best]): Best scores by metric.
        stopping (dict): Of early stopping: ``monitor``, ``rule``, ``wait_count``, ``patience``, ``best_score``.
        callbacks (dict): States of callbacks or hooks, by name.
        config (str or None): Text of the config.
        hyper_parameters (dict): What the model was built with.
        versions (dict[str, str]): Of what wrote the file.
        rest (list[str]): Top-level keys that are none of these.
        guesses (list[str]): What was inferred, and from what.
    """

    form: str
    weights: dict[str, Any] = field(default_factory=dict)
    weights_at: str = ''
    raw: dict[str, Any] | None = None
    averaged: dict[str, Any] | None = None
    optimizers: list[dict] = field(default_factory=list)
    schedulers: list[Any] = field(default_factory=list)
    epoch: int | None = None
    iter: int | None = None
    best: dict[str, Best] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    config: str | None = None
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)


def anatomy(tree: Any) -> Anatomy:
    """Find the parts of a checkpoint by its keys.

    Args:
        tree (Any): What :func:`mmckpt.files.open_file` found, or a loaded checkpoint.

    Example:
        >>> found = anatomy({'model': {'w': torch.ones(1)}, 'epoch': 3, 'best_pck': 0.8})
        >>> found.form, found.weights_at, found.epoch, found.best
        ('hand-written', 'model', 3, {'pck': Best(score=0.8, path='')})
    """
    if not isinstance(tree, dict):
        return Anatomy('unknown')
    if any(key in tree for key in ('pytorch-lightning_version', 'lightning_version')) and 'state_dict' in tree:
        return _lightning(tree)
    meta = tree.get('meta')
    if isinstance(meta, dict) and 'state_dict' in tree:
        old = 'mmcv_version' in meta and 'mmengine_version' not in meta and 'message_hub' not in tree
        return _mmcv(tree, meta) if old else _mmengine(tree, meta)
    return _by_hand(tree)


def number(value: Any) -> float | None:
    """Return the number that a scalar is, also one in a tensor that lies in a file; None for anything else."""
    try:
        if isinstance(value, TensorRef) and value.numel == 1:
            value = ValueReader().tensor(value)
        elif isinstance(value, ArrayRef):
            value = ValueReader().array(value, {}, '')
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            value = value.item() if len(value.reshape(-1)) == 1 else None
    except (CorruptCheckpointError, ValueError, TypeError, OSError):
        return None
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if plain else None
    except OverflowError:
        return None


def is_weights(value: Any) -> bool:
    """Whether a value is a dict of tensors by name, perhaps with a few other entries."""
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        return False
    return 2 * sum(isinstance(item, (TensorRef, ArrayRef, torch.Tensor, np.ndarray)) for item in value.values()) \
        > len(value)


def _mmengine(tree: dict, meta: dict) -> Anatomy:
    found = Anatomy('MMEngine', tree['state_dict'], 'state_dict')
    ema = tree.get('ema_state_dict')
    if is_weights(ema):
        # MMEngine swaps the two when it saves: what is called averaged here are the model's own.
        own = {key[7:]: value for key, value in ema.items() if key.startswith('module.')}
        found.raw = {**found.weights, **own}
    found.optimizers = _states(tree.get('optimizer'))
    found.schedulers = _listed(tree.get('param_schedulers'))
    found.epoch, found.iter = _count(meta.get('epoch')), _count(meta.get('iter'))
    hub = tree.get('message_hub')
    info = hub.get('runtime_info', {}) if isinstance(hub, dict) else {}
    for key, value in info.items() if isinstance(info, dict) else []:
        score = number(value) if isinstance(key, str) and key.startswith('best_score') else None
        if score is not None:
            name = key[len('best_score'):].lstrip('_')
            found.best[name or 'save_best'] = Best(score, str(info.get(key.replace('score', 'ckpt', 1), '')))
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
    found = Anatomy('mmcv 1.x', tree['state_dict'], 'state_dict', optimizers=_states(tree.get('optimizer')),
                    epoch=_count(meta.get('epoch')), iter=_count(meta.get('iter')))
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


def _lightning(tree: dict) -> Anatomy:
    found = Anatomy('Lightning', tree['state_dict'], 'state_dict', optimizers=_states(tree.get('optimizer_states')),
                    schedulers=_listed(tree.get('lr_schedulers')))
    found.versions = {'lightning': str(tree.get('pytorch-lightning_version') or tree.get('lightning_version'))}
    if is_weights(tree.get('current_model_state')):
        found.raw = tree['current_model_state']
    found.epoch, found.iter = _lightning_progress(tree)
    found.callbacks = tree['callbacks'] if isinstance(tree.get('callbacks'), dict) else {}
    for name, state in found.callbacks.items():
        if not isinstance(state, dict):
            continue
        score = number(state.get('best_model_score'))
        if str(name).startswith('ModelCheckpoint') and score is not None and state.get('monitor'):
            found.best[str(state['monitor'])] = Best(score, str(state.get('best_model_path') or ''))
        if str(name).startswith('EarlyStopping') and 'wait_count' in state:
            found.stopping = {**_key_arguments(str(name)), **{k: state.get(k) for k in ('wait_count', 'patience')},
                              'best_score': number(state.get('best_score'))}
    if isinstance(tree.get('hyper_parameters'), dict):
        found.hyper_parameters = tree['hyper_parameters']
    known = {'epoch', 'global_step', 'pytorch-lightning_version', 'lightning_version', 'state_dict', 'loops',
             'callbacks', 'optimizer_states', 'lr_schedulers', 'hparams_name', 'hparams_type', 'hyper_parameters',
             'current_model_state', 'averaging_state'}
    found.rest = [str(key) for key in tree if key not in known]
    return found


def _lightning_progress(tree: dict) -> tuple[int | None, int | None]:
    """Completed epochs and batches: ``epoch`` counts from 0, and ``global_step`` counts steps of optimizers."""
    epoch, step = _count(tree.get('epoch')), _count(tree.get('global_step'))
    batches = _at(tree, 'loops', 'fit_loop', 'epoch_loop.batch_progress')
    total = _count(_at(batches, 'total', 'completed'))
    ended = isinstance(batches, dict) and batches.get('is_last_batch') is True
    if epoch is not None and (ended or batches is None):
        epoch += 1
    return epoch, step if total is None else total


def _by_hand(tree: dict) -> Anatomy:
    at = next((key for key in WEIGHTS if is_weights(tree.get(key))), None)
    if at is None and is_weights(tree):
        return Anatomy('weights', tree, '')
    found = Anatomy('hand-written', tree[at] if at else {}, at or '')
    averaged = next((key for key in AVERAGED if is_weights(tree.get(key))), None)
    found.averaged = tree[averaged] if averaged else None
    used = {at, averaged}
    for names, read, target in ((OPTIMIZERS, _states, found.optimizers), (SCHEDULERS, _listed, found.schedulers)):
        key = next((key for key in names if read(tree.get(key))), None)
        used.add(key)
        target += read(tree.get(key)) if key else []
    # The name of the loss of this epoch is not the name of a best.
    for key, value in tree.items():
        score = number(value) if isinstance(key, str) and 'best' in key and 'epoch' not in key else None
        if score is not None:
            found.best[re.sub(r'(^|_)best(_|$)', r'\1', key).strip('_') or 'score'] = Best(score)
            used.add(key)
    waiting = next((key for key in _WAITING if _count(tree.get(key)) is not None), None)
    if waiting:
        found.stopping = {'wait_count': int(tree[waiting])}
    config = next((key for key in _CONFIGS if isinstance(tree.get(key), (dict, Opaque))), None)
    if config:
        parts = tree[config].state if isinstance(tree[config], Opaque) else tree[config]
        found.hyper_parameters = parts if isinstance(parts, dict) else {}
    counted = next((key for key in _ITERATIONS if _count(tree.get(key)) is not None), None)
    found.iter = _count(tree.get(counted))
    _hand_written_epoch(found, tree)
    used |= {'epoch', waiting, config, counted}
    found.rest = [str(key) for key in tree if key not in used]
    if not at:
        found.form = 'unknown'
    return found


def _hand_written_epoch(found: Anatomy, tree: dict) -> None:
    """Completed epochs, of a file in which ``epoch`` may be the number of the last one, from 0."""
    epoch = _count(tree.get('epoch'))
    steps = [_count(s.get('last_epoch')) for s in found.schedulers if isinstance(s, dict)]
    if epoch is not None and steps and steps[0] == epoch + 1:
        found.guesses.append(f'epoch {epoch} counts from 0, for the scheduler has made {steps[0]} steps: '
                             f'{epoch + 1} epochs are complete')
        epoch += 1
    elif epoch is not None:
        found.guesses.append(f'epoch {epoch} is taken as the number of completed epochs')
    found.epoch = epoch
    if found.iter is None:
        made = [number(s.get('step')) for o in found.optimizers for s in (o.get('state') or {}).values()
                if isinstance(s, dict)]
        if made and made[0]:
            found.iter = int(made[0])
            found.guesses.append(f'{found.iter} iterations, for the optimizer has made as many steps')


def _take_meta(found: Anatomy, tree: dict, meta: dict) -> None:
    text = meta.get('cfg', meta.get('config'))
    found.config = text if isinstance(text, str) else None
    found.versions = {key[:-8]: str(meta[key]) for key in meta
                      if isinstance(key, str) and key.endswith('_version') and isinstance(meta[key], str)}


def _states(value: Any) -> list[dict]:
    """Optimizer states in a value: one, a list, or a dict of them."""
    parts = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and 'param_groups' not in value:
        parts = list(value.values())
    return [part for part in parts if isinstance(part, dict) and isinstance(part.get('param_groups'), list)]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Mapping) and value and all(isinstance(part, list) for part in value.values()):
        return [item for part in value.values() for item in part]
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, dict) and part]


def _count(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and found == found and 0 <= found < 1e15 and found == int(found) else None


def _at(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _key_arguments(name: str) -> dict[str, Any]:
    """What Lightning puts into a callback's name: ``EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}``."""
    try:
        arguments = ast.literal_eval(name[name.index('{'):][:2000])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    rule = {'min': 'less', 'max': 'greater'}.get(arguments.get('mode'))
    return {'monitor': arguments.get('monitor'), 'rule': rule}
