"""The parts of a checkpoint that Lightning wrote."""

from __future__ import annotations

import ast
from typing import Any

from mmckpt.files.parts import Anatomy, Best, count, entry_at, is_weights, listed, number, states_in


def lightning_parts(tree: dict) -> Anatomy:
    """Find them; ``epoch`` and callbacks are in Lightning's own terms."""
    found = Anatomy('Lightning', tree['state_dict'], 'state_dict', optimizers=states_in(tree.get('optimizer_states')),
                    schedulers=listed(tree.get('lr_schedulers')))
    found.versions = {'lightning': str(tree.get('pytorch-lightning_version') or tree.get('lightning_version'))}
    if is_weights(tree.get('current_model_state')):
        found.raw, found.averages = tree['current_model_state'], count(entry_at(tree, 'averaging_state', 'n_averaged'))
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
        if is_weights(state.get('average_model_state')) and count(state.get('n_averaged')) and found.raw is None:
            # Averaged once an epoch, and EMAHook counts iterations.
            found.averaged = state['average_model_state']
            found.averages = int(state['n_averaged']) * max(1, (found.iter or 0) // (found.epoch or 1))
    if isinstance(tree.get('hyper_parameters'), dict):
        found.hyper_parameters = tree['hyper_parameters']
    known = {'epoch', 'global_step', 'pytorch-lightning_version', 'lightning_version', 'state_dict', 'loops',
             'callbacks', 'optimizer_states', 'lr_schedulers', 'hparams_name', 'hparams_type', 'hyper_parameters',
             'current_model_state', 'averaging_state'}
    found.rest = [str(key) for key in tree if key not in known]
    return found


def _lightning_progress(tree: dict) -> tuple[int | None, int | None]:
    """Completed epochs and batches: ``epoch`` counts from 0, and ``global_step`` counts steps of optimizers."""
    epoch, step = count(tree.get('epoch')), count(tree.get('global_step'))
    batches = entry_at(tree, 'loops', 'fit_loop', 'epoch_loop.batch_progress')
    # A file that is written inside an epoch is written before its last batch counts as completed.
    total = count(entry_at(batches, 'total', 'processed'))
    ended = isinstance(batches, dict) and batches.get('is_last_batch') is True
    if epoch is not None and (ended or batches is None):
        epoch += 1
    return epoch, step if total is None else total


def _key_arguments(name: str) -> dict[str, Any]:
    """What Lightning puts into a callback's name: ``EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}``."""
    try:
        arguments = ast.literal_eval(name[name.index('{'):][:2000])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    rule = {'min': 'less', 'max': 'greater'}.get(arguments.get('mode'))
    return {'monitor': arguments.get('monitor'), 'rule': rule}
