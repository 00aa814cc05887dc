"""The parts of a checkpoint that somebody's own training loop wrote."""

from __future__ import annotations

import re

from mmckpt.files.nodes import Opaque
from mmckpt.files.parts import Anatomy, Best, count, is_weights, listed, names_in, number, states_in

WEIGHTS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'module', 'weights', 'params', 'generator')
AVERAGED = ('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema_model', 'ema', 'params_ema', 'ema_model_state_dict')
OPTIMIZERS = ('optimizer', 'optimizer_state_dict', 'optim', 'optimizer_state', 'optimizer_states', 'optimizers')
SCHEDULERS = ('lr_scheduler', 'scheduler', 'scheduler_state_dict', 'lr_scheduler_state_dict', 'lr_schedulers',
              'schedulers', 'lr_sched', 'param_schedulers')
_ITERATIONS = ('iter', 'iteration', 'global_step', 'step', 'total_iters', 'n_iter', 'global_iter')
_WAITING = ('early_stopping_counter', 'patience_counter', 'epochs_without_improvement', 'no_improve', 'wait_count',
            'epochs_no_improve', 'early_stop_counter', 'counter', 'bad_epochs')
_CONFIGS = ('config', 'cfg', 'args', 'opt', 'hparams', 'hyper_parameters', 'hyperparameters')


def hand_written_parts(tree: dict) -> Anatomy:
    """Find them by the names that people give them."""
    if isinstance(tree.get('extra'), dict):
        # What mmckpt.state.sharded keeps beside model and optimizer.
        tree = {**tree['extra'], **{key: value for key, value in tree.items() if key != 'extra'}}
    at = next((key for key in WEIGHTS if is_weights(tree.get(key))), None)
    if at is None and is_weights(tree):
        return Anatomy('weights', tree, '')
    found = Anatomy('hand-written', tree[at] if at else {}, at or '')
    averaged = next((key for key in AVERAGED if is_weights(tree.get(key))), None)
    found.averaged = tree[averaged] if averaged else None
    used = {at, averaged}
    for names, read, target in ((OPTIMIZERS, states_in, found.optimizers), (SCHEDULERS, listed, found.schedulers)):
        key = next((key for key in names if read(tree.get(key))), None)
        used.add(key)
        target += read(tree.get(key)) if key else []
        found.optimizer_names = names_in(tree.get(key)) or found.optimizer_names
    # The name of the loss of this epoch is not the name of a best.
    for key, value in tree.items():
        score = number(value) if isinstance(key, str) and 'best' in key and 'epoch' not in key else None
        if score is not None:
            found.best[re.sub(r'(^|_)best(_|$)', r'\1', key).strip('_') or 'score'] = Best(score)
            used.add(key)
    waiting = next((key for key in _WAITING if count(tree.get(key)) is not None), None)
    if waiting:
        found.stopping = {'wait_count': int(tree[waiting])}
    config = next((key for key in _CONFIGS if isinstance(tree.get(key), (dict, Opaque))), None)
    if config:
        parts = tree[config].state if isinstance(tree[config], Opaque) else tree[config]
        found.hyper_parameters = parts if isinstance(parts, dict) else {}
    counted = next((key for key in _ITERATIONS if count(tree.get(key)) is not None), None)
    found.iter = count(tree.get(counted))
    _hand_written_epoch(found, tree)
    used |= {'epoch', waiting, config, counted}
    found.rest = [str(key) for key in tree if key not in used]
    if not at:
        found.form = 'unknown'
    return found


def _hand_written_epoch(found: Anatomy, tree: dict) -> None:
    """Completed epochs, of a file in which ``epoch`` may be the number of the last one, from 0."""
    epoch = count(tree.get('epoch'))
    steps = [count(s.get('last_epoch')) for s in found.schedulers if isinstance(s, dict)]
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
