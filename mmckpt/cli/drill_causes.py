"""What usually makes two runs part as they did, and what to do about it; no Runner in here."""

from __future__ import annotations

from typing import Any

from mmckpt.cli.drill_compare import Comparison, Part

_STREAMS = ('python stream', 'numpy stream', 'torch stream', 'cuda stream', 'xpu stream', 'mps stream')
_KEEP = ('Give it state_dict() and load_state_dict() if it is a hook, get_extra_state() and set_extra_state() if it '
         'is a module of the model; or draw from the global stream of PyTorch, which is kept')
_PARTS = {
    'weights': 'the weights in the checkpoint are not those of the training: look at hooks that swap or change them',
    'buffers': 'a buffer is not in the checkpoint: register_buffer(..., persistent=False) leaves it out',
    'gradients': 'the restart lies inside a window of gradient accumulation, and the gradients so far are not kept: '
                 'use mmckpt.CheckpointHook (--safe)',
    'optimizer': 'the optimizer is not as it was: look at save_optimizer in the checkpoint hook',
    'schedulers': 'the schedulers are not as they were: look at save_param_scheduler in the checkpoint hook',
    'EMA': "the averaged weights are not as they were: look at the EMA hook's place among the hooks",
    'counters': 'the loop does not count on where it was',
    'message hub': "the message hub is not as it was; a value that is put there with resumed=False isn't kept",
}


def causes_of_difference(found: Comparison, lost: list[str], resumed: dict[str, Any]) -> list[str]:
    """Say why a resumed run is another one, from what differs the moment that it goes on.

    Nothing has diverged at that moment: what differs there was not saved or not restored.

    Args:
        found (Comparison): Straight against resumed, from the restart on.
        lost (list[str]): Attributes that the restart lost.
        resumed (dict): The result of the resumed process.

    Returns:
        list[str]: Sentences, the likeliest cause first.
    """
    parts = found.at(found.begin)
    causes = _lost_generators(lost) + _lost_streams(parts, resumed)
    causes += [f'{text} ({_some(parts[name].where)})' for name, text in _PARTS.items() if name in parts]
    if 'hooks' in parts:
        causes.append(f"the state of a hook is not what it saved: {_some(parts['hooks'].where)}. Look at its "
                      'load_state_dict(), and at its before_train(), which runs after it')
    causes += _other_data(found, resumed)
    hidden = [name for name in lost if 'random generator' not in name]
    if hidden and not causes:
        causes.append(f'the restart lost {_some(hidden)}, which no checkpoint holds. {_KEEP}')
    return causes or _unseen(found, resumed['kernels'])


def causes_of_chance(found: Comparison, straight: dict[str, Any], kernels: list[str]) -> list[str]:
    """Say why two runs that were started alike are not alike.

    Args:
        found (Comparison): The straight run against the first half of the other.
        straight (dict): The result of the straight run.
        kernels (list[str]): Kernels that PyTorch says are not deterministic.
    """
    parts = found.at(found.first or 0)
    streams = [name for name in _STREAMS if name in parts]
    if found.first == 0 and 'weights' in parts:
        return ['the initial weights differ: they are drawn from a generator that nobody seeds, or before '
                'MMEngine seeds the global ones']
    if 'sample order' in parts:
        return ['the sampler gives other samples: it draws from a generator that nobody seeds']
    if 'data batches' in parts:
        return ['the same samples look otherwise: the data set or a transform draws from a generator that nobody '
                'seeds (random.Random(), np.random.default_rng() without a number), or depends on the clock']
    if streams:
        return [f'as much is not drawn from the {streams[0]} each time: something depends on the clock or on '
                'chance']
    return _unseen(found, kernels)


def _lost_generators(lost: list[str]) -> list[str]:
    generators = [name for name in lost if 'random generator' in name]
    return [f'{_some(generators)} begins anew: a generator of its own that nobody saves. {_KEEP}'] if generators else []


def _lost_streams(parts: dict[str, Part], resumed: dict[str, Any]) -> list[str]:
    lost = [name for name in _STREAMS if name in parts]
    if not lost:
        return []
    if not resumed['keeps_streams']:
        return [f'nothing keeps the random streams ({_some(lost)}): add dict(type=\'mmckpt.RNGStateHook\') to '
                'custom_hooks, or train with --safe']
    if 'data batches' in parts or 'sample order' in parts or resumed['loop'].startswith('IterBased'):
        return [f'{_some(lost)}: {resumed["loop"]} drew from it on its way to the place in the data: use the loops '
                'of mmckpt, and mmckpt.DeterministicDataset around the data set']
    return [f'{_some(lost)}: something drew from it between the end of the resume and the first iteration']


def _other_data(found: Comparison, resumed: dict[str, Any]) -> list[str]:
    data = [p for p in found.parts if p.name in ('sample order', 'data batches') and p.parted is not None
            and p.parted == found.first]
    if any(p.name == 'sample order' for p in data):
        return [f"the resumed run reads other samples: {resumed['loop']} and the sampler do not find their place; "
                'use mmckpt.ResumableSampler with the loops of mmckpt']
    if not data:
        return []
    if resumed['seeds_samples']:
        return ['the same samples look otherwise, although the data set seeds each of them: a transform draws from '
                'a generator of its own or depends on the clock']
    place = f"in its {resumed['workers']} worker(s)" if resumed['workers'] else 'of this process'
    return [f'the same samples look otherwise: the data set draws from the global streams {place}, which are not '
            "where they were. Wrap it: dataset=dict(type='mmckpt.DeterministicDataset', dataset=...), and use "
            'mmckpt.ResumableSampler']


def _unseen(found: Comparison, kernels: list[str]) -> list[str]:
    if kernels:
        return [f"kernels without a fixed order of summation: {', '.join(kernels)}. Set "
                'randomness=dict(deterministic=True), or replace them']
    return [f'data and state are the same when iteration {(found.first or 0) + 1} begins: the model or a hook depends '
            'on something outside of them (a global variable, a generator in a closure or in compiled code, the '
            'clock)']


def _some(names: Any, most: int = 3) -> str:
    names = list(names)
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
