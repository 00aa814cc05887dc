"""Where a run keeps its checkpoints, and which: settled before training, reported on after it."""

from __future__ import annotations

import math
import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import get_file_backend

from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.capture import predicted_bytes
from mmckpt.hooks.periodic_files import save_unsaved_end
from mmckpt.hooks.remote_out_dir import RemoteOutDir
from mmckpt.hooks.resume import LoadedCheckpoint
from mmckpt.hooks.resume_banner import resume_banner
from mmckpt.hooks.runner_adapter import broadcast_object, progress_between
from mmckpt.hooks.step_writer import StepWriter
from mmckpt.hooks.strategy_save import check_shared, writes_itself
from mmckpt.hooks.validation_delta import PendingValidationHook
from mmckpt.policy.retention import AnyOf, KeepBest, KeepEvery, KeepLast, KeepNone, KeepRoles
from mmckpt.policy.selection import Selection
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore
from mmckpt.store.space import megabytes


def locate(hook: Any, runner: Any, asked: Any) -> None:
    """Find directory and backend of a hook's files; both are needed before and during training.

    Args:
        hook (CheckpointHook): Gets ``out_dir``, ``file_backend`` and ``remote``.
        runner (Runner): The runner.
        asked (str or Path, optional): The hook's argument ``out_dir``.
    """
    hook.remote = RemoteOutDir.of(asked, runner.work_dir, hook.file_client_args or hook.backend_args)
    # What goes to a remote storage is written to the work directory first.
    hook.out_dir = runner.work_dir if asked is None or hook.remote is not None else asked
    hook._file_client = None
    hook.file_backend = (hook.file_client if hook.file_client_args is not None
                         else get_file_backend(hook.out_dir, backend_args=hook.backend_args))
    if hook.out_dir != runner.work_dir:
        basename = osp.basename(runner.work_dir.rstrip(osp.sep))
        hook.out_dir = hook.file_backend.join_path(hook.out_dir, basename)


def retention_of(hook: Any, selections: Sequence[Selection]) -> AnyOf:
    """Return what a hook keeps of the current run.

    Args:
        hook (CheckpointHook): Tells ``max_keep_ckpts`` and ``keep_every``.
        selections (list[Selection]): By what bests are chosen; with their rules.
    """
    policies: list[Any] = [KeepRoles('periodic') if hook.max_keep_ckpts < 0 else KeepLast(hook.max_keep_ckpts)]
    policies += [KeepNone('interrupted'), KeepNone('exception')]
    policies += [KeepBest(f'best:{s.name}', s.keep, s.rule) for s in selections]
    if hook.keep_every > 0:
        policies.append(KeepEvery(hook.keep_every, by_epoch=hook.by_epoch))
    return AnyOf(*policies)


def finish_resume(hook: Any, runner: Any, loaded: LoadedCheckpoint, bests: BestMetrics, writer: StepWriter) -> None:
    """Let the bests of the directory count, say what was restored, and make up a validation that was killed."""
    name = osp.basename(loaded.path)
    local = writer.store is not None and osp.realpath(loaded.path) == osp.realpath(osp.join(hook.out_dir, name))
    known = local and writer.store.find(name) is not None
    records, known = broadcast_object((writer.store and writer.store.records_of_run(), known))
    bests.resume_from_store(runner, records)
    runner.logger.info(resume_banner(runner, loaded))
    if loaded.validation_pending and runner.val_loop is not None:
        if known:
            # The record of this file takes the results, and a best can be a link to it.
            writer.adopt(name, progress_between(runner))
        runner.register_hook(PendingValidationHook())


def leave(hook: Any, runner: Any, writer: StepWriter, reason: str, error: BaseException | None) -> None:
    """Do what is left to do when training ends, however it does.

    Args:
        hook (CheckpointHook): The hook.
        runner (Runner): The runner.
        writer (StepWriter): The writer of this training.
        reason (str): As in :func:`mmckpt.hooks.runner_adapter.on_train_exit`.
        error (BaseException, optional): What ended it.
    """
    if reason == 'exception' and hook.save_on_exception:
        _save_at_exception(runner, writer, error)
    if reason == 'signal':
        # All ranks leave together; after an exception the others may be gone.
        writer.wait()


def _save_at_exception(runner: Any, writer: StepWriter, error: BaseException | None) -> None:
    """Save what there is when training ends by an exception; one of its own is only logged."""
    # Updates that were applied; the Runner counts an iteration after its last hook.
    applied = getattr(runner.optim_wrapper, '_inner_count', runner.iter)
    try:
        writer.write_at_exception(Progress(runner.epoch, max(runner.iter, applied)), error)
    except Exception:
        runner.logger.exception('The state at the exception could not be saved.')


def open_store(hook: Any, runner: Any, loaded: LoadedCheckpoint | None) -> CheckpointStore | None:
    """Take the directory of a run, on rank 0; call it on every rank.

    Args:
        hook (CheckpointHook): Tells directory, arguments and retention.
        runner (Runner): The runner, in ``before_train``.
        loaded (LoadedCheckpoint, optional): What the run resumes from.

    Returns:
        CheckpointStore: The open store; None on other ranks.

    Raises:
        LockedError: If another training has the directory.
        SaveError: If all ranks shall write, and not all see the directory.
    """
    store = _open_on_main(hook, runner, loaded) if is_main_process() else None
    if writes_itself(runner):
        check_shared(hook.out_dir, store)
    return store


def _open_on_main(hook: Any, runner: Any, loaded: LoadedCheckpoint | None) -> CheckpointStore:
    """Open the store, and say what the user should know before training."""
    store = CheckpointStore(
        hook.out_dir, retention=hook.retention(), pointer=osp.join(runner.work_dir, 'last_checkpoint'),
        logger=runner.logger, mirror=None if hook.remote is None else hook.remote.mirror(runner.logger),
        **hook.store_cfg)
    store.open(resumed_from=None if loaded is None else loaded.path, event=hook.event)
    if hook.keep_corrupt:
        for record in hook.rejected:
            store.set_aside(record)
    _check_fits(hook, runner, store)
    earlier = len(store.records())
    if loaded is None and earlier:
        runner.logger.warning(
            f'{hook.out_dir} holds {earlier} checkpoints of an earlier run, and this run starts anew: files of '
            'the same name will be replaced, all others stay. Pass --resume (resume=True) to go on with that '
            'run, or choose another work_dir.')
    return store


def finish(hook: Any, runner: Any, writer: StepWriter, save_end: bool) -> None:
    """Make sure at the end of a training that all is on the disk, and that hub and hook name only what is.

    Args:
        hook (CheckpointHook): The hook.
        runner (Runner): The runner, in ``after_train``.
        writer (StepWriter): The writer of this training.
        save_end (bool): Whether the last state gets a file if it has none.
    """
    if save_end:
        writer.make_way()
        save_unsaved_end(hook, runner, writer)
    writer.wait()
    if writer.store is not None:
        writer.store.join()
    writer.claims.settle()
    if writer.store is not None:
        writer.store.wait()
        _report_retention(runner, writer.store)


def _report_retention(runner: Any, store: CheckpointStore) -> None:
    """Say what the run has left on the disk and what retention has saved (R25)."""
    if not store.files_dropped:
        return
    files = {record.digest: record.size for record in store.records_of_run()}
    runner.logger.info(
        f'Checkpoints of this run: {len(files)} files, {megabytes(sum(files.values()))} on the disk; '
        f'{store.files_dropped} more were dropped, which saves {megabytes(store.bytes_freed)}.')


def _check_fits(hook: Any, runner: Any, store: CheckpointStore) -> None:
    """Say before training has cost an hour that its checkpoints will not fit on the disk."""
    known = store.records_of_run()
    if not known and writes_itself(runner):
        # Its weights may be in parts, which all ranks would have to count.
        return
    size = known[-1].size if known else predicted_bytes(runner, hook.save_optimizer)
    files = store.retention.most_files()
    if files is None and isinstance(hook.interval, int) and hook.interval > 0:
        steps = runner.max_epochs if hook.by_epoch else runner.max_iters
        files = math.ceil(steps / hook.interval) + sum(max(s.keep, 1) for s in hook.selections if s.rule)
    if files is not None:
        store.check_run_fits(size, files)
