"""What usually makes two runs part as they did, and what to do about it; no Runner in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmckpt.cli.drill_compare import Attribute, Comparison
from mmckpt.state.preflight import some_of

_STREAMS = ('python stream', 'numpy stream', 'torch stream', 'cuda stream', 'registered stream')
_PARTS = {
    'weights': 'the weights are not those that were trained: look at hooks that swap or change them',
    'buffers': 'a buffer is in no checkpoint: register_buffer(..., persistent=False) leaves it out',
    'gradients': 'the restart lies in a window of gradient accumulation, and the gradients so far are lost: '
                 'mmckpt.CheckpointHook (--safe) keeps them',
    'optimizer': 'the optimizer is not as it was: look at save_optimizer of the checkpoint hook',
    'schedulers': 'the schedulers are not as they were: look at save_param_scheduler of the checkpoint hook',
    'EMA': "the averaged weights are not as they were: look at the EMA hook's place among the hooks",
    'hooks': 'a hook is not in the state that it saved: look at its load_state_dict(), and at its '
             'before_train(), which runs later',
    'counters': 'the loop does not count on from where it was',
    'message hub': 'the message hub is not as it was: what is put there with resumed=False is not kept',
}
_KEEP = {
    'model': 'Keep it with get_extra_state() and set_extra_state() of its module.',
    'data': 'Let the data set draw from the global streams, and wrap it in mmckpt.DeterministicDataset.',
    'hook': 'Give the hook state_dict() and load_state_dict(); mmckpt.CheckpointHook (--safe) calls them.',
}
_REGISTER = 'Register it with mmckpt.state.rng.register_generator(), or draw from a global stream.'


def causes_of_difference(found: Comparison, lost: Sequence[Attribute], resumed: dict[str, Any]) -> list[str]:
    """Say why a resumed run is another one.

    Nothing has diverged yet at the moment when the run goes on: what differs
    there was not saved or not restored.

    Args:
        found (Comparison): Straight against resumed, from the restart on.
        lost (Sequence[Attribute]): What the restart lost.
        resumed (dict): The result of the resumed process.

    Returns:
        list[str]: Sentences, the likeliest cause first; empty if nothing that was recorded explains it.
    """
    generators = [a for a in lost if a.is_generator]
    causes = []
    if generators:
        causes.append(f'{some_of(generators)} begins anew: nobody saves it. {_keep(generators)}')
    causes += _other_data(found, resumed) + _lost_streams(found, resumed)
    parts = found.at(found.begin)
    causes += [f'{text} ({some_of(parts[name].where)})' for name, text in _PARTS.items() if name in parts]
    if lost and not causes:
        causes.append(f'the restart lost {some_of(lost)}, which is in no checkpoint. {_keep(lost)}')
    return causes


def causes_of_chance(found: Comparison, unlike: Sequence[Attribute]) -> list[str]:
    """Say why two runs that were started alike are not alike.

    Args:
        found (Comparison): The straight run against the first half of the other.
        unlike (Sequence[Attribute]): Generators that differ between them.

    Returns:
        list[str]: Sentences; empty if nothing that was recorded explains it.
    """
    if unlike:
        return [f'{some_of(unlike)} differs from run to run: seed it with a number, or draw from a global '
                'stream']
    streams = [name for name in _STREAMS if name in found.roots]
    if found.first == 0 and 'weights' in found.roots:
        return ['the initial weights differ: they are drawn before MMEngine seeds the global streams, or '
                'from a generator that nobody seeds']
    if 'sample order' in found.roots:
        return ['the sampler gives other samples: it draws from a generator that nobody seeds']
    if 'data batches' in found.roots:
        return ['the same samples look different: the data set or a transform draws from a generator that '
                'nobody seeds (random.Random(), np.random.default_rng() without a number), or depends on the '
                'clock']
    if streams:
        return [f'the runs draw different amounts from the {streams[0]}: something depends on the clock or '
                'on chance']
    return []


def unexplained(found: Comparison, kernels: Sequence[str]) -> str:
    """Say what is left when all that was recorded is equal until the losses part.

    Args:
        found (Comparison): The comparison.
        kernels (Sequence[str]): Kernels that PyTorch says are not deterministic.
    """
    if kernels:
        return (f"kernels that do not sum in a fixed order: {', '.join(kernels)}. Set "
                'randomness=dict(deterministic=True), or replace them')
    return (f'all that was recorded is equal until iteration {(found.first or 0) + 1}: model or hooks depend '
            'on something else (a global variable, a generator in a closure or in compiled code, the clock)')


def _lost_streams(found: Comparison, resumed: dict[str, Any]) -> list[str]:
    lost = [name for name in _STREAMS if name in found.at(found.begin)]
    if not lost:
        return []
    if not resumed['keeps_streams']:
        return [f"{some_of(lost)}: nothing keeps the random streams. Add dict(type='mmckpt.RNGStateHook') to "
                'custom_hooks, or train with --safe']
    if resumed['exact_loop']:
        return [f'{some_of(lost)}: something drew from it between the end of the resume and the first '
                'iteration']
    return [f"{some_of(lost)}: MMEngine's {resumed['loop']} drew from it when it opened the data or looked "
            'for its place there; the loops of mmckpt do not']


def _other_data(found: Comparison, resumed: dict[str, Any]) -> list[str]:
    if 'sample order' in found.roots:
        return [f"the resumed run reads other samples: {resumed['loop']} and the sampler do not find their "
                'place. Use mmckpt.ResumableSampler with the loops of mmckpt']
    # Without streams that are kept, they are the cause, not the data set that draws from them.
    if 'data batches' not in found.roots or not (resumed['keeps_streams'] or resumed['workers']):
        return []
    if resumed['seeds_samples']:
        return ['the same samples look different, although the data set seeds each of them: a transform '
                'draws from a generator of its own, or depends on the clock']
    place = f"of its {resumed['workers']} worker(s)" if resumed['workers'] else 'of this process'
    return [f'the same samples look different: the data set draws from the global streams {place}, which '
            "a restart begins anew. Wrap it: dataset=dict(type='mmckpt.DeterministicDataset', dataset=dict(...)) "
            "with sampler=dict(type='mmckpt.ResumableSampler')"]


def _keep(attributes: Sequence[Attribute]) -> str:
    owners = [_owner(a.path.partition('.')[0]) for a in attributes]
    ways = [_REGISTER if a.is_generator and owner != 'data' else _KEEP[owner]
            for a, owner in zip(attributes, owners)]
    return ' '.join(dict.fromkeys(ways))


def _owner(root: str) -> str:
    return 'data' if root in ('dataset', 'sampler', 'collate_fn') else 'model' if root == 'model' else 'hook'
