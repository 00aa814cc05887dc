"""Compares a checkpoint with the Runner that is about to resume from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mmengine
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

import mmckpt
from mmckpt.data import DeterministicDataset
from mmckpt.data.resumable_batches import is_indexed
from mmckpt.data.sequential_entry import is_stateful
from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.hooks.capture import stateful_hooks
from mmckpt.hooks.facts import length_of, run_facts
from mmckpt.hooks.optimizer_fit import hyperparameter_differences, misfit, scheduler_differences
from mmckpt.hooks.resume import check_model, weight_differences
from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.hooks.strategy_save import writes_itself
from mmckpt.loops import EpochBasedTrainLoop as ExactEpochs
from mmckpt.loops import IterBasedTrainLoop as ExactIters
from mmckpt.state.config_diff import config_changes, read_config_text
from mmckpt.state.digest import leaf_texts
from mmckpt.state.plain import to_plain
from mmckpt.state.preflight import (
    Difference,
    Harm,
    Preflight,
    inexact,
    judge_config,
    shortened,
    some_of,
)


def resume_preflight(runner: Any, path: str, checkpoint: dict[str, Any]) -> None:
    """Log what changed since a checkpoint was written, before anything of it is put back.

    Args:
        runner (Runner): A runner in ``after_load_checkpoint`` of a resume.
        path (str): The file.
        checkpoint (dict): Its content.

    Raises:
        IncompatibleCheckpointError: If the file's model or optimizer is another one.
    """
    found = preflight(runner, path, checkpoint)
    if found.refusals:
        raise IncompatibleCheckpointError('\n'.join(found.refusals))
    runner.logger.info(str(found))


def preflight(runner: Any, path: str, checkpoint: dict[str, Any]) -> Preflight:
    """Compare a checkpoint with a Runner that has built its parts and loaded nothing.

    The verdict is *exact* where the resumed run ends as an uninterrupted run
    with this config would, as far as the file and the Runner tell.

    Args:
        runner (Runner): The runner; train loop, optimizer and schedulers are built.
        path (str): The file.
        checkpoint (dict): Its content.

    Returns:
        Preflight: The verdict and its reasons.
    """
    meta, facts = checkpoint.get('meta', {}), checkpoint.get('mmckpt', {}).get('facts', {})
    # What a strategy has written, in parts on all ranks, only it can compare with what it has built.
    ours = [] if writes_itself(runner) or 'strategy' in checkpoint.get('mmckpt', {}) else [
        *_weights(runner, path, checkpoint), *_optimizer(runner, path, checkpoint, facts),
        *scheduler_differences(runner, checkpoint)]
    differences = [
        *ours, *_config(runner, meta), *_seed(runner, meta),
        *_data(runner, meta, facts), *_position(runner, meta), *_absent_parts(runner, checkpoint),
        *_machine(runner, meta, facts)]
    return Preflight(f"{path} (epoch {meta.get('epoch')}, iter {meta.get('iter')})", tuple(differences))


def _weights(runner: Any, path: str, checkpoint: dict[str, Any]) -> Iterator[Difference]:
    try:
        check_model(runner, path, checkpoint)
    except IncompatibleCheckpointError as error:
        yield Difference('weights', str(error), Harm.RESUME)
        return
    missing, _, unexpected = weight_differences(unwrapped_model(runner), checkpoint['state_dict'])
    if missing:
        yield inexact('weights', f'{some_of(missing)}: not in the file, starts anew')
    if unexpected:
        yield inexact('weights', f'{some_of(unexpected)}: in the file, unknown to the model')


def _optimizer(runner: Any, path: str, checkpoint: dict[str, Any], facts: dict[str, Any]
               ) -> Iterator[Difference]:
    if 'optimizer' not in checkpoint:
        yield inexact('optimizer', 'the file holds no state of it (save_optimizer=False?): it starts anew')
        return
    reason = misfit(runner, checkpoint['optimizer'], facts.get('parameter_order'))
    if reason is None:
        yield from hyperparameter_differences(runner, checkpoint['optimizer'])
        return
    yield Difference(
        'optimizer', f"the optimizer state in {path} does not fit this run's optimizer: {reason}.\n"
        'Resume with the config that the run was started with. To start a new training from its weights, '
        f'leave out --resume and pass --cfg-options load_from={path}.', Harm.RESUME)


def _config(runner: Any, meta: dict[str, Any]) -> list[Difference]:
    try:
        saved = read_config_text(meta['cfg'])
    except (KeyError, ValueError):
        return [Difference('config', 'the file holds no readable config, so what changed in it is not known',
                           Harm.EXACTNESS)]
    # MMEngine's RuntimeInfoHook has formatted it already, which takes seconds for a large one.
    now = runner.message_hub.runtime_info.get('cfg') or runner.cfg.pretty_text
    changes = config_changes(*(_without_seed(part) for part in (saved, read_config_text(now))))
    return judge_config(changes, _seeds_samples(runner))


def _without_seed(cfg: dict[str, Any]) -> dict[str, Any]:
    """The config without its seed: the one that counts is in the checkpoint's meta, also where none is set."""
    return dict(cfg, randomness={k: v for k, v in (cfg.get('randomness') or {}).items() if k != 'seed'})


def _seed(runner: Any, meta: dict[str, Any]) -> Iterator[Difference]:
    saved, now = meta.get('seed'), runner.cfg.get('randomness', {}).get('seed')
    if now is not None and saved is not None and saved != now:
        yield inexact('seed', f'{saved} -> {now}: MMEngine goes on with the {saved} of the file')


def _data(runner: Any, meta: dict[str, Any], facts: dict[str, Any]) -> Iterator[Difference]:
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    saved, now = meta.get('dataset_meta') or {}, to_plain(metainfo or {})
    for key in dict.fromkeys([*saved, *now]):
        if leaf_texts(saved.get(key)) != leaf_texts(now.get(key)):
            yield inexact('metainfo', f'{key}: {shortened(repr(saved.get(key)))} -> '
                          f'{shortened(repr(now.get(key)))}')
    if not facts:
        return
    current = run_facts(runner)
    if facts.get('samples') != current['samples']:
        yield inexact('data', f"samples in the training set: {facts.get('samples')} -> {current['samples']}")
    if _batch(facts) != _batch(current):
        follows = ('the same samples in a step, but sums are rounded and random numbers drawn per rank'
                   if _batch(facts)[2] == _batch(current)[2] else
                   'other samples in a step, at a learning rate that stays')
        yield inexact('batch', '{} x {} rank(s) = {} -> {} x {} rank(s) = {}: {}'.format(
            *_batch(facts), *_batch(current), follows))


def _batch(facts: dict[str, Any]) -> tuple[int | None, int, int | None]:
    """Samples a step of a rank, ranks, and samples a step of the job."""
    size, ranks = facts.get('batch_size'), facts.get('world_size', 1)
    return size, ranks, None if size is None else size * ranks


def _position(runner: Any, meta: dict[str, Any]) -> Iterator[Difference]:
    """Whether the loop can enter the data where the file was written."""
    loop, loader, done = runner.train_loop, runner.train_dataloader, meta.get('iter', 0)
    is_exact = isinstance(loop, (ExactEpochs, ExactIters))
    if is_exact and (is_stateful(loader) or not is_indexed(loader)):
        return  # the loop takes the place from the checkpoint, or reads again and says so
    length = length_of(loader)
    inside = isinstance(loop, EpochBasedTrainLoop) and done > meta.get('epoch', 0) * (length or 0)
    if inside and not is_exact:
        yield inexact('position', f'iteration {done} lies inside an epoch, which {_name(loop)} starts again: '
                      'train_cfg.type mmckpt.EpochBasedTrainLoop continues in it')
    if isinstance(loop, IterBasedTrainLoop) and not is_exact and done:
        yield inexact('position', f'{_name(loop)} reads {done} batches again, which draws random numbers: '
                      'train_cfg.type mmckpt.IterBasedTrainLoop enters the data at once')
    exact_inside = is_exact and (inside or isinstance(loop, ExactIters) and done > 0)
    if loader.num_workers and not _seeds_samples(runner) and (exact_inside or loader.persistent_workers):
        yield inexact('data', 'the streams of the data workers start anew, and with them augmentation: '
                      'wrap the data set in mmckpt.DeterministicDataset')


def _absent_parts(runner: Any, checkpoint: dict[str, Any]) -> Iterator[Difference]:
    saved = checkpoint.get('mmckpt', {})
    parts = {*checkpoint, *saved.get('parts', ())}
    names = {type(hook).__name__ for hook in runner.hooks}
    if 'rng' not in saved:
        yield inexact('streams', 'the file holds no random streams')
    elif 'RNGStateHook' not in names:
        yield inexact('streams', 'custom_hooks lacks mmckpt.RNGStateHook: nothing puts them back')
    if runner.param_schedulers and 'param_schedulers' not in parts and 'strategy' not in saved:
        yield inexact('scheduler', 'the file holds no scheduler state: they start anew')
    if 'EMAHook' in names and 'ema_state_dict' not in parts:
        yield inexact('EMA', 'the file holds no EMA weights: they start anew')
    states = saved.get('hooks', {})
    absent = [name for name in stateful_hooks(runner) if name not in states]
    if absent:
        yield inexact('hooks', f'the file holds no state of {some_of(absent)}: it starts anew')


def _machine(runner: Any, meta: dict[str, Any], facts: dict[str, Any]) -> Iterator[Difference]:
    if facts:
        current = run_facts(runner)
        for key in ('torch', 'device', 'cpu_threads'):
            if facts.get(key) != current[key]:
                yield inexact('machine', f'{key}: {facts.get(key)} -> {current[key]}: sums may be rounded '
                              'otherwise')
    for key, name, now in (('mmengine_version', 'mmengine', mmengine.__version__),
                           ('mmckpt_version', 'mmckpt', mmckpt.__version__)):
        # A git hash may follow.
        if not str(meta.get(key, now)).startswith(now):
            yield Difference('machine', f'{name}: {meta[key]} -> {now}', Harm.NOTHING)


def _seeds_samples(runner: Any) -> bool:
    return isinstance(runner.train_dataloader.dataset, DeterministicDataset)


def _name(loop: Any) -> str:
    return type(loop).__name__
