"""Checkpoints that a strategy of MMEngine's FlexibleRunner writes itself, on all ranks: DeepSpeed, FSDP, ColossalAI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from mmengine._strategy.base import BaseStrategy

from mmckpt.errors import IncompatibleCheckpointError, SaveError
from mmckpt.hooks.capture import StateCapture
from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.runner_adapter import broadcast_object, gather_objects
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore, StagedCheckpoint, load_checkpoint
from mmckpt.store.unit import STATE, is_unit

# What these write is MMEngine's plain dict, which we capture ourselves.
_PLAIN = {BaseStrategy, SingleDeviceStrategy, DDPStrategy}


def writes_itself(runner: Any) -> bool:
    """Whether the runner has a strategy with a way of its own to save, in which all ranks take part."""
    strategy = getattr(runner, 'strategy', None)
    if strategy is None:
        return False
    return any(next((c for c in type(strategy).__mro__ if name in vars(c)), BaseStrategy) not in _PLAIN
               for name in ('save_checkpoint', 'model_state_dict', 'optim_state_dict'))


def name_of_writer(runner: Any) -> str | None:
    """Return the class name of such a strategy, or None if there is none."""
    return type(runner.strategy).__name__ if writes_itself(runner) else None


def unsealed_directory(runner: Any, directory: Path) -> str | None:
    """Return what the strategy has written without us and ``last_checkpoint`` names, or None."""
    pointer = directory / 'last_checkpoint'
    if not writes_itself(runner) or not pointer.is_file():
        return None
    named = pointer.read_text().strip()
    return named if Path(named).is_dir() else None


def check_shared(directory: str, store: CheckpointStore | None) -> None:
    """Refuse a directory of which ranks see another one than rank 0; call it on every rank.

    On the disks of several machines each part of a checkpoint would lie where it was written, and none be whole.

    Args:
        directory (str): Where the strategy will write.
        store (CheckpointStore, optional): What rank 0 has opened there; None on other ranks.

    Raises:
        SaveError: If it is not the same directory on all ranks.
    """
    begun = broadcast_object(None if store is None else store.index.attempts[-1])
    seen = gather_objects(begun in CheckpointStore.read(directory).index.attempts)
    blind = [str(rank) for rank, sees in enumerate(seen) if not sees]
    if blind:
        raise SaveError(
            f'{directory} of rank {", ".join(blind)} is not that of rank 0, and each rank would write its part of a '
            'checkpoint into its own. Choose a work_dir (or out_dir) on a file system that all machines share.')


class StrategySave:
    """Lets the strategy of a runner write, and adds what it does not know.

    The strategy gets a hidden path and writes there what it likes: a
    directory, to which each rank adds its files, or a file. What hooks, hub
    and ranks have goes with it as ``extra_ckpt``; a directory gets it once
    more in a file of ours, since not every strategy tells hooks of a load.

    Args:
        capture (StateCapture): Builds that part of the state.
    """

    def __init__(self, capture: StateCapture) -> None:
        self.capture = capture
        self.strategy = capture.runner.strategy

    def write(self, staged: StagedCheckpoint | None, progress: Progress, val_pending: bool, save_optimizer: bool,
              ranks: Sequence[Any], notes: Sequence[Any]) -> StagedCheckpoint | None:
        """Write a checkpoint; call it on every rank.

        Args:
            staged (StagedCheckpoint, optional): Where to, if anything shall be written; None on ranks other than 0.
            progress (Progress): Completed counts.
            val_pending (bool): Whether a validation is due at this step.
            save_optimizer (bool): Whether the optimizer goes into it.
            ranks (Sequence): State of the ranks, as :class:`mmckpt.hooks.rank_state.RankState` gathered it.
            notes (Sequence): What is noted of the bests; on rank 0.

        Returns:
            StagedCheckpoint: What was written, or why it could not be; None on ranks other than 0.
        """
        runner = self.capture.runner
        path = broadcast_object(str(staged.path) if staged is not None and staged.is_wanted else None)
        if path is None:
            return staged
        extra = self.capture.extra(progress, val_pending)
        envelope(extra).update(ranks=ranks, bests=notes, strategy=name_of_writer(runner), parts=list(extra))
        runner.call_hook('add_checkpoint_state', checkpoint=extra)

        def tell_hooks(checkpoint: dict[str, Any]) -> None:
            runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
            envelope(extra)['parts'] = list(checkpoint)

        failure, pending = '', None
        try:
            pending = self.strategy.save_checkpoint(
                path, save_optimizer=save_optimizer, save_param_scheduler=self.capture.save_param_scheduler,
                extra_ckpt=dict(extra), callback=tell_hooks)
        except Exception as error:
            # A full disk shows as this or that error, by who writes; it costs the save, not the run.
            runner.logger.exception('A checkpoint could not be written on this rank.')
            failure = f'{type(error).__name__}: {error}'
        failures = gather_objects(failure)
        if staged is None:
            return None
        if not any(failures) and staged.path.is_dir():
            failures = [*failures, _add_state(staged.path, extra)]
        # Ours may write in the background, for which the store waits.
        ready = getattr(pending, 'result', None)
        return replace(staged, ready=ready, failure='; '.join(
            f'rank {rank}: {text}' for rank, text in enumerate(failures) if text))

    def wait(self) -> None:
        """Wait until this rank has written what it writes in the background; call it before the job ends."""
        getattr(self.strategy, 'wait_for_save', bool)()


def tell_of_directory(runner: Any) -> dict[str, Any] | None:
    """Hand hooks what the directory that a run resumes from holds next to the strategy's files.

    Not every strategy tells hooks of a load.

    Args:
        runner (Runner): A runner whose ``_load_from`` has been chosen.

    Returns:
        dict: What it holds, or None if it is no directory of ours.

    Raises:
        IncompatibleCheckpointError: If another strategy has written it.
    """
    path = runner._load_from
    if path is None or '://' in path or not is_unit(path) or not Path(path, STATE).is_file():
        return None
    told = load_checkpoint(Path(path, STATE))
    own, writer = name_of_writer(runner), told.get('mmckpt', {}).get('strategy')
    if own != writer:
        raise IncompatibleCheckpointError(
            f'{path} was written by {writer}, and this run has {own or "no strategy that writes directories"}: '
            f"resume with a FlexibleRunner and strategy=dict(type='{writer}').")
    runner.call_hook('take_checkpoint_state', checkpoint=told)
    return told


def _add_state(directory: Path, extra: dict[str, Any]) -> str:
    """Write our file; return why that failed, or ''."""
    try:
        torch.save(extra, directory / STATE)
    except (OSError, RuntimeError) as error:
        return f'{type(error).__name__}: {error}'
    return ''
