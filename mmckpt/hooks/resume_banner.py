"""The lines that say what a resume put back, and what was not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_world_size

from mmckpt.hooks.resume import LoadedCheckpoint

RESTORED, MISSING, INEXACT, PENDING = 'restored', 'MISSING ', 'INEXACT ', 'pending '


def resume_banner(runner: Any, loaded: LoadedCheckpoint) -> str:
    """Return one line for every part of the training state.

    Args:
        runner (Runner): A runner whose state has been restored.
        loaded (LoadedCheckpoint): The file that it was restored from.

    Returns:
        str: Several lines, for people.
    """
    meta = loaded.meta
    writer = f"mmckpt {meta['mmckpt_version']}" if 'mmckpt_version' in meta else 'MMEngine'
    rows = [*_parts(runner, loaded), *_streams(runner, loaded), *_hooks(loaded), *_validation(loaded), *_marks(loaded)]
    order = {RESTORED: 0, MISSING: 1, INEXACT: 2, PENDING: 3}
    return '\n'.join([
        f'Resumed from {loaded.path}',
        f'  epoch {runner.epoch}, iter {runner.iter}, written by {writer} at {meta.get("time", "?")}',
        *(f'  {word}  {text}' for word, text in sorted(rows, key=lambda row: order[row[0]]))])


def _parts(runner: Any, loaded: LoadedCheckpoint) -> Iterator[tuple[str, str]]:
    wanted = [('message_hub', 'message hub (log history, best scores)')]
    if loaded.strategy is not None:
        yield RESTORED, f'model weights, optimizer and parameter schedulers, by {loaded.strategy}'
    else:
        yield RESTORED, f'model weights ({loaded.n_tensors} tensors)'
        wanted.insert(0, ('optimizer', 'optimizer'))
        if runner.param_schedulers is not None:
            wanted.append(('param_schedulers', 'parameter schedulers'))
    if any(type(hook).__name__ == 'EMAHook' for hook in runner.hooks):
        wanted.append(('ema_state_dict', 'EMA weights'))
    for key, text in wanted:
        yield _restored_or_missing(key in loaded.parts, text)
    if any(rank['gradients'] for rank in loaded.envelope.get('ranks', [])):
        yield RESTORED, 'gradients of the accumulation window that was open'
    if any(rank.get('data') for rank in loaded.envelope.get('ranks', [])):
        yield RESTORED, 'place in the training data, which have no index'


def _streams(runner: Any, loaded: LoadedCheckpoint) -> Iterator[tuple[str, str]]:
    saved, now = len(loaded.envelope.get('rng', {}).get('ranks', [])), get_world_size()
    if not saved:
        yield MISSING, 'random streams: not in the file, they start from the seed'
    elif not any(type(hook).__name__ == 'RNGStateHook' for hook in runner.hooks):
        yield MISSING, 'random streams: in the file, but the config has no mmckpt.RNGStateHook to restore them'
    else:
        yield RESTORED, f'random streams of {min(saved, now)} rank(s)'
    if saved and saved != now:
        yield INEXACT, (f'{saved} rank(s) wrote the file and {now} resume: same samples in the same order if the '
                        'global batch is the same, but sums are taken in another order, and ranks that are new '
                        'draw from seed, iteration and rank. The resume is not bit-exact.')


def _hooks(loaded: LoadedCheckpoint) -> Iterator[tuple[str, str]]:
    for name in loaded.restored_hooks:
        yield RESTORED, f'state of {name}'
    for name in loaded.absent_hooks:
        yield MISSING, f'state of {name}: not in the file, it starts anew'


def _validation(loaded: LoadedCheckpoint) -> Iterator[tuple[str, str]]:
    if loaded.post_validation is not None:
        yield RESTORED, 'results of the validation at this step, from the index'
    if loaded.validation_pending:
        yield PENDING, 'the validation of this step was not finished: it runs first'


def _marks(loaded: LoadedCheckpoint) -> Iterator[tuple[str, str]]:
    if 'inexact' in loaded.envelope:
        yield INEXACT, f"{loaded.envelope['inexact']}. The resume is not bit-exact."


def _restored_or_missing(there: bool, text: str) -> tuple[str, str]:
    return (RESTORED, text) if there else (MISSING, f'{text}: not in the file, starts anew')
