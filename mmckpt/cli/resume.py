"""Which checkpoint a command works on, found and checked before anything is built."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmckpt.cli.console import say, warn
from mmckpt.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    IncompatibleCheckpointError,
    near_matches,
)
from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.files.foreign import is_own_form, read_foreign
from mmckpt.hooks.remote_out_dir import RemoteOutDir
from mmckpt.store import CheckpointStore, find_checkpoint, load_checkpoint, split_spec
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory, is_remote
from mmckpt.store.unit import STATE, is_unit
from mmckpt.store.verdict import hand_over

_PATTERNS = ('*.pth', '*.pt', '*.ckpt', '*.safetensors')


@dataclass(frozen=True)
class ResumePoint:
    """Where training goes on from.

    Args:
        path (str): A file, or a URL of one of MMEngine's storage backends.
        seed (int or None): The seed of the run that wrote it, if the file says.
    """

    path: str
    seed: int | None


def find_resume_point(cfg: Config, asked: str) -> ResumePoint | None:
    """Find what ``--resume`` asks for and check that training can go on from it.

    Args:
        cfg (Config): The config, with its ``work_dir``.
        asked (str): ``'auto'`` for the newest valid checkpoint of the work
            directory, or a file, directory, spec (``best:AP``) or URL.

    Returns:
        ResumePoint or None: None if ``'auto'`` finds no checkpoint at all.

    Raises:
        CheckpointNotFoundError: If the path does not exist or the directory holds no checkpoint.
        CorruptCheckpointError: If there are checkpoints, but none is valid.
        IncompatibleCheckpointError: If the file holds no training state.
    """
    if is_remote(asked):
        asked = _downloaded(asked, cfg.work_dir)
    if '://' in asked:
        return ResumePoint(asked, None)
    remote = remote_out_dir(cfg)
    if remote is not None and asked == 'auto':
        pull(RemoteDirectory(remote.url), remote.work_dir, logging.getLogger('mmckpt'), download=True)
    if asked == 'auto':
        directory = checkpoint_dir(cfg)
        if not checkpoints_in(directory):
            return None
        path = newest_valid(directory)
    else:
        path = existing_checkpoint(asked, str(checkpoint_dir(cfg)))
    # The hook that loads it need not read all of it once more.
    hand_over(path)
    return ResumePoint(str(path), seed_of_training_state(path))


def resume_from(cfg: Config, point: ResumePoint | None) -> None:
    """Let a config resume from a point; without one it starts anew, and a warning says so.

    The seed goes into the config before the Runner is built where the config
    leaves it open: samplers take theirs at construction, and MMEngine would
    draw a new one.
    """
    if point is None:
        start = f"the weights in {cfg.load_from}" if cfg.get('load_from') else 'scratch'
        warn(f'--resume: {checkpoint_dir(cfg)} holds no checkpoint, training starts from {start}.')
        cfg.resume = False
        return
    say(f'resumes from {point.path}')
    cfg.resume = True
    # None is what a config that is dumped now should say: the newest of its work directory.
    cfg.load_from = None if _pointed_at(cfg.work_dir) == os.path.abspath(point.path) else point.path
    randomness = dict(cfg.get('randomness') or {})
    if point.seed is not None and randomness.get('seed') is None:
        cfg.randomness = dict(randomness, seed=point.seed)


def settled_load_from(cfg: Config) -> str | None:
    """Return ``load_from`` with a spec (``work_dirs/run@best:AP``) replaced by the file that it names."""
    asked = cfg.get('load_from')
    if isinstance(asked, str) and split_spec(asked, checkpoint_dir(cfg)) is not None:
        return str(existing_checkpoint(asked, str(checkpoint_dir(cfg))))
    return asked


def existing_checkpoint(path: str, work_dir: str) -> Path:
    """Return a checkpoint file that exists; of a directory its newest valid one.

    Args:
        path (str): A file or directory, or what a checkpoint is: ``best:AP``
            (of ``work_dir``), ``work_dirs/run@latest``; see :func:`mmckpt.store.find_checkpoint`.
        work_dir (str): Where a spec alone looks, and where to look for similar
            names if the path's own directory has none.

    Raises:
        CheckpointNotFoundError: If there is none; lists what is there.
        CorruptCheckpointError: If its bytes are not those that were written.
    """
    asked, named = Path(path), split_spec(path, work_dir)
    if named is not None:
        found = find_checkpoint(*named)
        say(f'{path} is {found.path}' if not found.note else found.note)
        return found.path
    if asked.is_file() or is_unit(asked):
        _check_bytes(asked)
        return asked
    if asked.is_dir():
        if not checkpoints_in(asked):
            raise CheckpointNotFoundError(
                f'{path} is a directory without a checkpoint ({", ".join(_PATTERNS)}). Pass a file or the '
                'work directory of a run.')
        newest = newest_valid(asked)
        say(f'{path} is a directory: takes its newest valid checkpoint, {newest.name}')
        return newest
    for directory in (asked.parent, Path(work_dir)):
        names = [file.name for file in checkpoints_in(directory)]
        if names:
            raise CheckpointNotFoundError(
                f'checkpoint {path} does not exist. In {directory}: {near_matches(asked.name, names)}')
    raise CheckpointNotFoundError(
        f'checkpoint {path} does not exist, and neither {asked.parent} nor {work_dir} holds any.')


def newest_valid(directory: Path) -> Path:
    """Return the newest checkpoint of a directory whose bytes verify.

    Raises:
        CorruptCheckpointError: If there is none.
    """
    record = CheckpointStore.read(directory).latest_valid()
    if record is not None:
        return directory / record.name
    pointed = _pointed_at(str(directory))
    if pointed is not None and os.path.isdir(pointed) and not is_unit(pointed):
        warn(f'{pointed}, which last_checkpoint names, was not written by mmckpt: its bytes cannot be checked.')
        return Path(pointed)
    raise CorruptCheckpointError(
        f'{directory} holds {len(checkpoints_in(directory))} checkpoint files, but none of them is valid '
        '(the reasons are above). Pass another file as --resume-from PATH, or train without --resume to '
        'start anew.')


def checkpoint_dir(cfg: Config) -> Path:
    """Return where a run keeps its checkpoints: ``work_dir``, unless the hook has an ``out_dir``."""
    out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    if out_dir is None or remote_out_dir(cfg) is not None:
        return Path(cfg.work_dir)
    return Path(out_dir) / os.path.basename(os.path.abspath(cfg.work_dir))


def remote_out_dir(cfg: Config) -> RemoteOutDir | None:
    """Return the remote directory into which the checkpoint hook of a config uploads, or None."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    return RemoteOutDir.of(hook.get('out_dir'), cfg.work_dir, hook.get('file_client_args') or hook.get('backend_args'))


def checkpoints_in(directory: Path) -> list[Path]:
    """Return the files of a directory that are named like checkpoints."""
    return sorted(file for pattern in _PATTERNS for file in directory.glob(pattern))


def _downloaded(url: str, work_dir: str) -> str:
    """Bring a remote checkpoint, or the newest valid one of a remote directory, below the work directory."""
    remote, name = remote_parts(url)
    directory = Path(work_dir, 'downloaded', re.sub(r'[^\w.-]+', '_', remote.url))
    pull(remote, directory, logging.getLogger('mmckpt'), download=True, name=name)
    say(f'downloaded {url} to {directory}')
    return str(directory if name is None else directory / name)


def remote_parts(url: str) -> tuple[RemoteDirectory, str | None]:
    """Take the URL of a remote checkpoint, or of a directory of them, apart; the name is None for a directory."""
    parent, _, name = url.rstrip('/').rpartition('/')
    is_file = any(fnmatch(name, pattern) for pattern in _PATTERNS)
    return RemoteDirectory(parent if is_file else url), name if is_file else None


def _check_bytes(path: Path) -> None:
    view = CheckpointStore.read(path.parent)
    record = view.find(path.name)
    fault = None if record is None else view.verify(record)
    if fault is not None:
        raise CorruptCheckpointError(
            f'{path} is not what was written there: {fault}. Pass another file; --resume alone takes '
            'the newest one that is valid.')


def _pointed_at(work_dir: str) -> str | None:
    pointed = find_latest_checkpoint(work_dir) if os.path.isfile(
        os.path.join(work_dir, 'last_checkpoint')) else None
    return None if pointed is None else os.path.abspath(pointed)


def seed_of_training_state(path: Path) -> int | None:
    """Return the seed of the run that wrote a file, if it says; refuse one that no training can go on from."""
    if path.is_dir():
        # Which of its files hold weights and optimizer, the strategy that wrote them knows.
        return load_checkpoint(path / STATE, mmap=True).get('meta', {}).get('seed') if is_unit(path) else None
    try:
        checkpoint: dict[str, Any] = load_checkpoint(path, mmap=True)
    except IncompatibleCheckpointError:
        checkpoint = {}
    if not checkpoint or not is_own_form(checkpoint):
        optimizers = anatomy(open_file(path).tree).optimizers
        if not checkpoint or optimizers:
            # Several have names in the Runner only, which is not there yet.
            checkpoint = read_foreign(path, optimizers=[f'optimizer {i}' for i in range(len(optimizers))]).checkpoint
    meta = checkpoint.get('meta', {})
    absent = [key for key in ('message_hub', 'state_dict') if key not in checkpoint]
    absent += [f"meta['{key}']" for key in ('epoch', 'iter') if key not in meta]
    if absent:
        raise IncompatibleCheckpointError(
            f"training cannot go on from {path}: it holds no {', '.join(absent)}, only "
            f"{', '.join(map(repr, checkpoint))}. To start a new training from its weights, pass "
            f'--cfg-options load_from={path} instead.')
    if 'optimizer' not in checkpoint:
        warn(f'{path} holds no optimizer state (save_optimizer=False?): the optimizer starts anew.')
    return meta.get('seed')
