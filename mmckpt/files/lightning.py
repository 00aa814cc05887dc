"""A checkpoint in MMEngine's form as one that ``lightning.Trainer.fit(ckpt_path=...)`` goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmckpt.files.converted import Converted
from mmckpt.files.optimizers import PER_GROUP
from mmckpt.files.torch_schedules import schedules_to_torch

# The form below is that of 2.0; later versions of Lightning migrate it when they load it.
_VERSION = '2.0.0'


def to_lightning(converted: Converted) -> Converted:
    """Turn MMEngine's form into Lightning's.

    Args:
        converted (Converted): A checkpoint in MMEngine's form.

    Returns:
        Converted: One in Lightning's, with what was kept and lost so far and now.
    """
    source, lost = converted.checkpoint, dict(converted.lost)
    meta = source.get('meta', {})
    epoch, count = int(meta.get('epoch', 0)), int(meta.get('iter', 0))
    checkpoint: dict[str, Any] = {
        'epoch': max(0, epoch - 1), 'global_step': count, 'pytorch-lightning_version': _VERSION,
        'state_dict': source['state_dict'], 'loops': {'fit_loop': _fit_loop(epoch, count)}, 'callbacks': {},
        'optimizer_states': [], 'lr_schedulers': []}
    optimizer = source.get('optimizer')
    if optimizer is not None:
        several = 'param_groups' not in optimizer
        states = list(optimizer.values()) if several else [optimizer]
        checkpoint['optimizer_states'] = [
            {k: v for k, v in state.items() if k in ('state', 'param_groups')} for state in states]
    _schedulers(checkpoint, source.get('param_schedulers') or [], lost)
    if 'hyper_parameters' in meta:
        checkpoint['hyper_parameters'] = meta['hyper_parameters']
    if 'ema_state_dict' in source:
        own = {k[7:]: v for k, v in source['ema_state_dict'].items() if k.startswith('module.')}
        checkpoint['current_model_state'] = {**source['state_dict'], **own}
        checkpoint['averaging_state'] = {'n_averaged': source['ema_state_dict'].get('steps')}
    _callbacks(checkpoint, source, lost)
    if source.get('message_hub', {}).get('log_scalars'):
        lost['log history'] = 'Lightning leaves it to its loggers'
    return Converted(checkpoint, _kept(checkpoint, converted.kept), lost)


def _kept(checkpoint: dict[str, Any], kept: Mapping[str, str]) -> dict[str, str]:
    counts = [sum(len(group['params']) for group in state['param_groups']) for state in checkpoint['optimizer_states']]
    found = {'optimizer': ' and '.join(map(str, counts)) + ' parameters'} if counts else {}
    if checkpoint['lr_schedulers']:
        found['schedulers'] = str(len(checkpoint['lr_schedulers']))
    if checkpoint['callbacks']:
        found['callbacks'] = ', '.join(name.partition('{')[0] for name in checkpoint['callbacks'])
    return {**{part: text for part, text in kept.items() if part != 'all else'}, **found}


def _schedulers(checkpoint: dict[str, Any], schedulers: Any, lost: dict[str, str]) -> None:
    lists = list(schedulers.values()) if isinstance(schedulers, dict) else [schedulers]
    try:
        counts = [len(state['param_groups']) for state in checkpoint['optimizer_states']]
        checkpoint['lr_schedulers'] = [found for states, count in zip(lists, counts) for found in schedules_to_torch([
            # MMEngine has one more group where there are several.
            {key: value[:count] if key in PER_GROUP else value for key, value in state.items()} for state in states])]
    except ValueError as error:
        lost['schedulers'] = str(error)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        # A file can say anything.
        lost['schedulers'] = f'their states are broken ({type(error).__name__}: {error})'


def _callbacks(checkpoint: dict[str, Any], source: dict[str, Any], lost: dict[str, str]) -> None:
    stopping = source.get('mmckpt', {}).get('hooks', {}).get('EarlyStoppingHook')
    if stopping:
        import torch

        mode = {'less': 'min', 'greater': 'max'}[stopping['rule']]
        checkpoint['callbacks'][f"EarlyStopping{{'monitor': {stopping['monitor']!r}, 'mode': {mode!r}}}"] = dict(
            wait_count=stopping['wait_count'], stopped_epoch=0,
            best_score=torch.tensor(float(stopping['best_score'])))
    info = source.get('message_hub', {}).get('runtime_info', {})
    names = [key for key in info if key.startswith('best_score')]
    if names:
        lost['best scores'] = ("ModelCheckpoint's state is known by its arguments, which only the Trainer has: "
                               + ', '.join(f'{key} {info[key]:.6g}' for key in names))
    for key in ('rng', 'ranks', 'hooks'):
        part = source.get('mmckpt', {}).get(key)
        if part and not (key == 'hooks' and set(part) == {'EarlyStoppingHook'}):
            lost[f'mmckpt {key}'] = 'Lightning has no place for it'


def _fit_loop(epoch: int, count: int) -> dict[str, Any]:
    batches = count // epoch if epoch else count
    done = dict(ready=count, started=count, processed=count, completed=count)
    now = dict(ready=batches, started=batches, processed=batches, completed=batches)
    none = dict(ready=0, started=0, processed=0, completed=0)
    steps = {'step': {'total': dict(ready=count, completed=count), 'current': dict(ready=batches, completed=batches)},
             'zero_grad': {'total': dict(ready=count, started=count, completed=count),
                           'current': dict(ready=batches, started=batches, completed=batches)}}
    epochs = dict(ready=epoch, started=epoch, processed=epoch, completed=epoch)
    return {
        'state_dict': {}, 'epoch_loop.state_dict': {'_batches_that_stepped': count},
        'epoch_loop.batch_progress': {'total': done, 'current': now, 'is_last_batch': True},
        'epoch_loop.scheduler_progress': {'total': dict(ready=epoch, completed=epoch),
                                          'current': dict(ready=0, completed=0)},
        'epoch_loop.automatic_optimization.state_dict': {},
        'epoch_loop.automatic_optimization.optim_progress': {'optimizer': steps},
        'epoch_loop.manual_optimization.state_dict': {},
        'epoch_loop.manual_optimization.optim_step_progress': {'total': dict(ready=0, completed=0),
                                                               'current': dict(ready=0, completed=0)},
        'epoch_loop.val_loop.state_dict': {},
        'epoch_loop.val_loop.batch_progress': {'total': none, 'current': none, 'is_last_batch': False},
        'epoch_progress': {'total': epochs, 'current': epochs}}
