"""From the parts of any checkpoint to MMEngine's form."""

from __future__ import annotations

from typing import Any

import torch

from mmckpt.errors import IncompatibleCheckpointError, UsageError
from mmckpt.files.anatomy import Anatomy, anatomy
from mmckpt.files.content import Content
from mmckpt.files.converted import Converted, Wishes
from mmckpt.files.key_rules import without_wrapper
from mmckpt.files.optimizers import (
    misfit,
    misfit_of_several,
    schedulers_of_several,
    with_base_rates,
    with_base_settings,
)
from mmckpt.files.random_streams import random_streams
from mmckpt.files.schedules import mapped_schedulers
from mmckpt.files.values import ValueReader
from mmckpt.files.writing import meta_of_header
from mmckpt.store import load_checkpoint

# Why the state of a callback that comes with Lightning has no place.
_CALLBACKS = {'Timer': 'a limit of time counts from the start of each process here (PreemptionHook, time_limit)',
              'Finetuning': 'MMEngine has no hook that thaws layers: freeze and thaw them in the config of each stage',
              'StochasticWeightAveraging': 'it has averaged nothing so far'}


def to_mmengine(content: Content, wishes: Wishes | None = None) -> Converted:
    """Turn a checkpoint of any kind into MMEngine's form.

    Args:
        content (Content): What :func:`mmckpt.files.open_file` found.
        wishes (Wishes, optional): Rules and overrides. Defaults to none.

    Returns:
        Converted: The checkpoint, with everything that could be mapped.

    Raises:
        IncompatibleCheckpointError: If no weights are found in it, or some cannot be read.
        UsageError: If a rule does not fit the file.
    """
    wishes = wishes or Wishes()
    parts = anatomy(content.tree)
    if not parts.weights:
        keys = ', '.join(map(repr, list(content.tree)[:10])) if isinstance(content.tree, dict) else 'no dict'
        raise IncompatibleCheckpointError(f'{content.path} holds no weights that could be found; it holds {keys}')
    if parts.form == 'MMEngine' and not content.classes.keys() - {'mmengine.logging.history_buffer.HistoryBuffer'}:
        return _renamed_mmengine(content, parts, wishes)
    return _Conversion(content, parts, wishes).run()


class _Conversion:
    def __init__(self, content: Content, parts: Anatomy, wishes: Wishes) -> None:
        self.content, self.parts, self.wishes = content, parts, wishes
        self.reader = ValueReader()
        self.out = Converted({})
        self.named: dict[str, dict[str, Any]] = {}

    def run(self) -> Converted:
        meta = self._meta()
        self.out.checkpoint = {'meta': meta, 'state_dict': self._weights()}
        self._averages()
        if self.wishes.weights_only:
            return self.out
        self._optimizer()
        if 'optimizer' in self.out.checkpoint:
            self._progress(meta)
            self._schedulers()
        self._hub(meta)
        self._hooks()
        for key in self.parts.rest:
            if key not in self.out.kept and not (key.endswith('rng_state') and 'random streams' in self.out.kept):
                self.out.lost[key] = 'nothing in MMEngine stands for it'
        return self.out

    def _meta(self) -> dict[str, Any]:
        parts = self.parts
        meta: dict[str, Any] = {'converted_from': f'{parts.form} ({self.content.path.name})',
                                **{f'{name}_version': text for name, text in parts.versions.items()}}
        if parts.config is not None:
            # Under MMEngine's old name, Runner.resume would execute it.
            meta['cfg'] = parts.config
            self.out.kept['config'] = f'{len(parts.config.splitlines())} lines'
        if parts.hyper_parameters:
            lost: dict[str, str] = {}
            meta['hyper_parameters'] = self.reader.tree(parts.hyper_parameters, lost)
            self.out.kept['hyper-parameters'] = f'{len(parts.hyper_parameters)} of them, in meta'
            self.out.lost.update({f'hyper-parameter {path}': reason for path, reason in lost.items()})
        old = self.content.tree.get('meta') if parts.form == 'mmcv 1.x' else None
        if isinstance(old, dict) and isinstance(old.get('CLASSES'), (tuple, list)):
            meta['dataset_meta'] = {'classes': self.reader.tree(old['CLASSES'])}
            self.out.kept['classes'] = f"{len(old['CLASSES'])} names"
        # A file that went through safetensors has its meta back.
        return {**meta, **meta_of_header(self.content.metadata)}

    def _weights(self) -> dict[str, torch.Tensor]:
        renaming = self.wishes.rules.apply(self.parts.weights)
        lost: dict[str, str] = {}
        weights = self.reader.tree(renaming.renamed, lost)
        broken = {name: reason for name, reason in lost.items() if 'an object of' not in reason}
        if broken:
            name, reason = next(iter(broken.items()))
            raise IncompatibleCheckpointError(
                f'{self.content.path}: {len(broken)} weights cannot be read, such as {name}: {reason}')
        tensors = {name: value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
                   for name, value in weights.items() if value is not None and not isinstance(value, (str, dict, list))}
        others = [name for name in renaming.renamed if name not in tensors]
        self.out.kept['weights'] = f'{len(tensors)} tensors' + (
            f', {renaming.changed} renamed' if renaming.changed else '')
        if renaming.dropped:
            self.out.lost[f'{len(renaming.dropped)} weights'] = 'left out as asked'
        for name in others:
            self.out.lost[f'weights.{name}'] = 'it is no tensor'
        return tensors

    def _averages(self) -> None:
        kind, source = ('raw', self.parts.raw) if self.parts.raw else ('averaged', self.parts.averaged)
        if not source:
            return
        own = {**without_wrapper(source)}
        names = self.wishes.rules.apply({k: v for k, v in own.items() if k in without_wrapper(self.parts.weights)})
        other = self.reader.tree(names.renamed)
        weights = self.out.checkpoint['state_dict']
        average, training = (other, weights) if kind == 'averaged' else (weights, other)
        # MMEngine keeps the average where it is loaded from, and the weights in training beside it.
        self.out.checkpoint['state_dict'] = {**weights, **average}
        # At 0 the first update would put the weights in training in the place of the average.
        steps = max(1, self.parts.averages or self.parts.iter or 1)
        self.out.checkpoint['ema_state_dict'] = {
            'steps': torch.tensor(steps), **{f'module.{k}': training[k] for k in weights if k in training}}
        self.out.kept['EMA'] = f'{len(other)} averaged weights after {steps} iterations; EMAHook takes them'

    def _optimizer(self) -> None:
        lost: dict[str, str] = {}
        states = [self.reader.tree(state, lost) for state in self.parts.optimizers]
        names = list(self.wishes.optimizers) or self.parts.optimizer_names
        if len(states) > 1 and len(names) != len(states):
            self.out.lost['optimizers'] = (
                f'there are {len(states)}, and what they are called in your OptimWrapperDict is not in the file; pass '
                '--optimizers NAME,NAME in this order: ' + ', '.join(map(_size, states)))
        if not states or 'optimizers' in self.out.lost:
            return
        weights = self.out.checkpoint['state_dict']
        self.named = dict(zip(names, states)) if len(states) > 1 else {}
        reason = next((f'{k}: {v}' for k, v in lost.items()), None) or (
            misfit_of_several(self.named, weights) if self.named else misfit(states[0], weights))
        if reason:
            self.out.lost['optimizer'] = reason
            return
        self.named = {name: with_base_settings(state) for name, state in self.named.items()}
        self.out.checkpoint['optimizer'] = self.named or with_base_settings(states[0])
        for name, state in self.named.items() or [('', states[0])]:
            self.out.kept[f'optimizer {name}'.rstrip()] = f"{_size(state)}, lr {state['param_groups'][0].get('lr')}"

    def _progress(self, meta: dict[str, Any]) -> None:
        epoch = self.parts.epoch if self.wishes.epoch is None else self.wishes.epoch
        count = self.parts.iter if self.wishes.iter is None else self.wishes.iter
        if epoch is None or count is None:
            missing = [name for name, value in (('--epoch', epoch), ('--iter', count)) if value is None]
            raise UsageError(
                f'{self.content.path} does not say how far the training was, which a resume has to know: pass '
                f'{" and ".join(f"{name} N (completed)" for name in missing)}, or --weights-only.')
        meta.update(epoch=epoch, iter=count)
        self.out.kept['progress'] = f'{epoch} epochs and {count} iterations completed'
        if self.parts.guesses and self.wishes.epoch is None:
            self.out.kept['guessed'] = '; '.join(self.parts.guesses)

    def _schedulers(self) -> None:
        if self.parts.form == 'mmcv 1.x':
            self.out.lost['schedule'] = ('mmcv 1.x keeps none, it followed from the epoch: the schedulers of the '
                                         'config start at their first step')
            return
        found = [self.reader.tree(s, {}) for s in self.parts.schedulers]
        states: Any
        meta = self.out.checkpoint['meta']
        count = meta['iter'] if meta['iter'] != meta['epoch'] else None
        states, kept, lost = (schedulers_of_several(self.named, found, count) if self.named
                              else mapped_schedulers(found, count))
        if states:
            self.out.checkpoint['param_schedulers'] = with_base_rates(states, self.out.checkpoint['optimizer'])
        self.out.kept.update(kept)
        self.out.lost.update(lost)

    def _hub(self, meta: dict[str, Any]) -> None:
        info: dict[str, Any] = {key: meta[key] for key in ('epoch', 'iter') if key in meta}
        for old, best in self.parts.best.items():
            name = self.wishes.metrics.get(old, old)
            info[f'best_score_{name}'] = best.score
            # The path is left out: whoever finds a better one would remove a file of another program.
            self.out.kept[f'best {old}'] = f'{best.score:.6g}' + (f' as {name}' if name != old else '')
        unknown = self.wishes.metrics.keys() - self.parts.best.keys()
        if unknown:
            raise UsageError(f'the file has no best score of {sorted(unknown)}; it has {sorted(self.parts.best)}')
        if len(self.parts.best) == 1:
            info['best_score'] = next(iter(self.parts.best.values())).score
        self.out.checkpoint['message_hub'] = {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': {}}

    def _hooks(self) -> None:
        own: dict[str, Any] = {'version': 1}
        stopping = self.parts.stopping
        if stopping.get('monitor') and stopping.get('rule') and stopping.get('best_score') is not None:
            name = self.wishes.metrics.get(stopping['monitor'], stopping['monitor'])
            own['hooks'] = {'EarlyStoppingHook': dict(
                version=1, monitor=name, rule=stopping['rule'], wait_count=int(stopping['wait_count']),
                best_score=stopping['best_score'], best_at=None, last_score=None)}
            self.out.kept['early stopping'] = f"{name}, {stopping['wait_count']} validations without improvement"
        elif stopping:
            self.out.lost['early stopping'] = ('the file has its count '
                                               f"({stopping.get('wait_count')}) but not the metric that it counts")
        streams = random_streams(self.content.tree, self.reader)
        if streams is not None:
            own['rng'] = {'ranks': [streams], 'sampler_seed': None}
            self.out.kept['random streams'] = ', '.join(streams)
        if len(own) > 1:
            self.out.checkpoint['mmckpt'] = own
        for name in self.parts.callbacks:
            kind = str(name).split('{')[0]
            if kind in ('ModelCheckpoint', 'EarlyStopping') or ('Averaging' in kind and 'EMA' in self.out.kept):
                continue
            reasons = (reason for word, reason in _CALLBACKS.items() if word in kind)
            self.out.lost[f'callback {kind}'] = next(reasons, 'no hook of MMEngine takes its state')


def _renamed_mmengine(content: Content, parts: Anatomy, wishes: Wishes) -> Converted:
    # Through a memory map, what is left out is never read.
    checkpoint = load_checkpoint(content.path, mmap=wishes.weights_only)
    out = Converted(checkpoint)
    renaming = wishes.rules.apply(checkpoint['state_dict'])
    checkpoint['state_dict'] = renaming.renamed
    if 'ema_state_dict' in checkpoint:
        own = {k[7:]: v for k, v in checkpoint['ema_state_dict'].items() if k.startswith('module.')}
        others = {k: v for k, v in checkpoint['ema_state_dict'].items() if not k.startswith('module.')}
        checkpoint['ema_state_dict'] = {
            **others, **{f'module.{k}': v for k, v in wishes.rules.apply(own).renamed.items()}}
    out.kept['weights'] = f'{len(renaming.renamed)} tensors' + (
        f', {renaming.changed} renamed' if renaming.changed else '')
    if wishes.weights_only:
        out.checkpoint = {k: checkpoint[k] for k in ('meta', 'state_dict', 'ema_state_dict') if k in checkpoint}
    else:
        out.kept['all else'] = 'as it was'
        states = checkpoint.get('optimizer') if renaming.dropped else None
        reason = states and (misfit if 'param_groups' in states else misfit_of_several)(states, renaming.renamed)
        if reason:
            out.lost['optimizer'] = reason
            del checkpoint['optimizer']
    return out


def _size(state: dict[str, Any]) -> str:
    groups = state['param_groups']
    return f"{sum(len(g['params']) for g in groups)} parameters in {len(groups)} group(s)"
