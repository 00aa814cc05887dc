"""Keeps what is needed to run a batch again whose loss or gradient was not finite, and says where it went wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size

from mmckpt.hooks.nan_locator import Located, locate, undisturbed
from mmckpt.hooks.runner_adapter import alone, gather_objects, unwrapped_model
from mmckpt.hooks.step_guard import StepGuard
from mmckpt.progress import Progress
from mmckpt.state.plain import to_plain
from mmckpt.state.rng import capture_rng_state, restore_rng_state
from mmckpt.store.backend import LocalBackend, rename, write_temporary

# Causes that the statistics name.
MOST_FOUND = 20
_IDENTITY = ('id', 'idx', 'index', 'path', 'filename', 'name')


class NanCases:
    """Looks for the cause of each loss or gradient that is not finite, and keeps the first cases on disk.

    It works before the update is applied, with the weights, BN statistics and
    random streams of the bad batch, and leaves no trace in the training. Costs
    a copy of the random streams an iteration (0.1 to 0.2 ms), and one more
    forward and backward pass an event.

    Args:
        max_cases (int): Directories ``work_dir/nan_ITER`` to keep, those of
            earlier processes included; the first ones stay. At least 0.
            Defaults to 2.

    Raises:
        ValueError: If ``max_cases`` is out of its range.
    """

    def __init__(self, max_cases: int = 2) -> None:
        if isinstance(max_cases, bool) or not isinstance(max_cases, int) or max_cases < 0:
            raise ValueError(f'locate_nan: max_cases must be a whole number of at least 0, but got {max_cases!r}.')
        self.max_cases = max_cases
        self.found: list[dict[str, Any]] = []
        self._current: tuple[Any, Any] | None = None
        self._suspect: tuple[Any, Any] | None = None

    def prepare(self, runner: Any, guard: StepGuard) -> None:
        """Know the runner and the guard; call it in ``before_train``."""
        self._runner, self._guard = runner, guard

    def before_iter(self, batch: Any) -> None:
        """Remember the batch and the random streams that it is run with."""
        self._current = (batch, capture_rng_state())

    def suspect(self) -> None:
        """Note that the present batch is the first bad one of its window."""
        self._suspect = self._suspect or self._current

    def forget(self) -> None:
        """Begin a new window."""
        self._suspect = None

    def look(self, done: Progress) -> None:
        """Find the cause and keep the case; call it on all ranks, for all of them learn what each has found.

        Args:
            done (Progress): Completed counts, the present iteration included.
        """
        suspect, self._suspect = self._suspect or self._current, None
        found = None
        try:
            found = self._look(done, *suspect)
        except Exception as error:  # A model that cannot be copied or run apart: no reason to stop a training.
            self._runner.logger.error(f'The cause of the non-finite values at iter {done.iter} could not be looked '
                                      f'for: {type(error).__name__}: {error}')
        # Rank 0 writes the statistics, whichever rank had the batch.
        self.found += filter(None, gather_objects(found))
        del self.found[:-MOST_FOUND]

    def _look(self, done: Progress, batch: Any, streams: Any) -> dict[str, Any] | None:
        runner, model = self._runner, unwrapped_model(self._runner)
        with undisturbed(model):
            self._guard.buffers.put_back()
            # What a module's get_extra_state() returns need not be a tensor.
            weights = {key: value.detach().to('cpu', copy=True) if isinstance(value, torch.Tensor) else deepcopy(value)
                       for key, value in model.state_dict().items()}
            restore_rng_state(streams)
            # The bad numbers may end this pass early, and other ranks must not wait for it.
            with alone(model):
                located = locate(model, runner.optim_wrapper, batch)
        if located.kind == 'nothing' and get_world_size() > 1:
            # Another rank's batch it was.
            return None
        samples = samples_of(batch)
        directory = self._keep(done, located, samples, dict(state_dict=weights, rng=streams), batch)
        where = f'[rank {get_rank()}] ' if get_rank() else ''
        kept = f' Run it again with: mmckpt replay {directory}' if directory else ''
        # Loggers of other ranks show errors only.
        (runner.logger.error if get_rank() else runner.logger.warning)(
            f'{where}Cause of the non-finite values at iter {done.iter}: {located.text}.'
            f'{_named(located, samples)}{kept}')
        return dict(iter=done.iter, kind=located.kind, name=located.name, text=where + located.text)

    def _keep(self, done: Progress, located: Located, samples: list[dict[str, Any]], state: dict[str, Any],
              batch: Any) -> Path | None:
        runner = self._runner
        suffix = f'_rank{get_rank()}' if get_world_size() > 1 else ''
        target = Path(runner.work_dir) / f'nan_{done.iter}{suffix}'
        if len(list(target.parent.glob(f'nan_[0-9]*{suffix}'))) >= self.max_cases or target.exists():
            return None
        facts = dict(
            version=1, epoch=done.epoch, iter=done.iter, rank=get_rank(), seed=runner.seed, located=vars(located),
            samples=samples, last_checkpoint=runner.message_hub.runtime_info.get('last_ckpt'))
        try:
            write_case(target, runner.cfg, facts, state, batch)
        except Exception as error:  # A full disk, or a batch that cannot be pickled: no reason to stop a training.
            runner.logger.error(f'The case of iter {done.iter} could not be kept: {type(error).__name__}: {error}')
            return None
        return target


def write_case(target: Path, cfg: Any, facts: Mapping[str, Any], state: Mapping[str, Any], batch: Any) -> None:
    """Write a case directory that is complete and durable, or not there.

    Args:
        target (Path): Its name.
        cfg (Config): The config of the run.
        facts (dict): What ``case.json`` says.
        state (dict): ``state_dict`` and ``rng``, in plain types.
        batch (Any): The batch, as the data loader gave it.
    """
    backend, draft = LocalBackend(), target.with_name(f'.{target.name}.draft')
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    plain = _is_plain(batch)
    texts = {'config.py': cfg.pretty_text, 'case.json': json.dumps(to_plain({**facts, 'plain_batch': plain}), indent=2),
             'README.txt': _readme(target, facts, plain)}
    try:
        for name, content in (('state.pth', dict(state)), ('batch.pth', batch)):
            temporary, _ = write_temporary(backend, draft / name, lambda file, c=content: torch.save(c, file))
            rename(backend, temporary, draft / name)
        for name, text in texts.items():
            temporary, _ = write_temporary(backend, draft / name, lambda file, t=text: file.write(t.encode()))
            rename(backend, temporary, draft / name)
        backend.sync_directory(draft)
        os.replace(draft, target)
        backend.sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def samples_of(batch: Any) -> list[dict[str, Any]]:
    """Return what names each sample of a batch: ids, indices, paths, as far as the batch has them.

    Example:
        >>> samples_of({'inputs': [0, 0], 'img_path': ['a.png', 'b.png'], 'img_id': torch.tensor([7, 8])})
        [{'img_path': 'a.png', 'img_id': 7}, {'img_path': 'b.png', 'img_id': 8}]
    """
    columns = batch if isinstance(batch, Mapping) else {}
    named: dict[int, dict[str, Any]] = {}
    for key, values in columns.items():
        values = values.tolist() if hasattr(values, 'tolist') else values
        for i, value in enumerate(values if isinstance(values, (list, tuple)) else ()):
            # MMEngine's data elements carry the names of their sample.
            own = getattr(value, 'metainfo', {key: value})
            named.setdefault(i, {}).update({k: to_plain(v) for k, v in own.items() if _names_a_sample(k)})
    return [named.get(i, {}) for i in range(max(named, default=-1) + 1)]


def _names_a_sample(key: str) -> bool:
    return key.rsplit('_', 1)[-1] in _IDENTITY


def _named(located: Located, samples: list[dict[str, Any]]) -> str:
    index = located.name.rpartition('[')[2].rstrip(']')
    if located.kind != 'batch' or not index.isdigit() or int(index) >= len(samples) or not samples[int(index)]:
        return ''
    return ' That sample is ' + ', '.join(f'{key}={value}' for key, value in samples[int(index)].items()) + '.'


def _is_plain(batch: Any) -> bool:
    file = io.BytesIO()
    torch.save(batch, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True, map_location='cpu')
    except Exception:
        return False
    return True


def _readme(target: Path, facts: Mapping[str, Any], plain: bool) -> str:
    trust = '' if plain else ' --trust-batch'
    return (
        f"The loss or a gradient was not finite at iteration {facts['iter']} (rank {facts['rank']}).\n"
        f"{facts['located']['facts']}\n\nRun the batch again, with the weights and random streams of then:\n\n"
        f'    mmckpt replay {target}{trust}\n\n'
        'batch.pth   the batch as the data loader gave it' + ('' if plain else
        ' (pickled objects: loading them runs code, so replay asks for --trust-batch)') + '\n'
        'state.pth   weights and buffers before the update, and the random streams\n'
        'config.py   the config of the run\n'
        'case.json   iteration, samples, what was found, the newest checkpoint\n')
