"""The periodic files of a ``CheckpointHook``: names, the list of kept ones, and which is the last."""

from __future__ import annotations

from collections import deque
from typing import Any

from mmckpt.hooks.claims import Claim, Claims, hub_restorer
from mmckpt.hooks.runner_adapter import progress_between
from mmckpt.hooks.step_writer import StepWriter
from mmckpt.progress import Progress


def save_periodic(hook: Any, runner: Any, writer: StepWriter, progress: Progress, val_pending: bool) -> None:
    """Write the file of a step, and note it where MMEngine does."""
    writer.claims.settle_before_write()
    name, claims = file_of(hook, progress), [point_last(hook, runner, writer.claims, progress)]
    step = progress.count(hook.by_epoch)
    if hook.max_keep_ckpts > 0 and step not in hook.keep_ckpt_ids:
        claims.append(_claim_id(hook, runner, writer.claims, step))
    writer.write(name, progress, roles=('periodic',), val_pending=val_pending, claims=claims)
    writer.claims.settle()


def save_unsaved_end(hook: Any, runner: Any, writer: StepWriter) -> None:
    """Early stopping ends a run between two intervals; stock would leave no file of its end."""
    progress = progress_between(runner)
    writer.claims.settle_before_write()
    if progress.count(hook.by_epoch) > 0 and hook.last_ckpt != _path(hook, file_of(hook, progress)):
        save_periodic(hook, runner, writer, progress, val_pending=False)


def file_of(hook: Any, progress: Progress) -> str:
    """Return the plain name of the file of a step."""
    return hook.filename_tmpl.format(progress.count(hook.by_epoch))


def point_last(hook: Any, runner: Any, claims: Claims, progress: Progress) -> Claim:
    """Let the file of a step be the last one, on the hook and in the hub, until it is lost."""
    before, restore_hub = hook.last_ckpt, hub_restorer(runner.message_hub, 'last_ckpt')

    def take_back() -> None:
        hook.last_ckpt = before
        restore_hub()

    hook.last_ckpt = _path(hook, file_of(hook, progress))
    runner.message_hub.update_info('last_ckpt', hook.last_ckpt)
    return claims.add(take_back, 'last_ckpt')


def resume_last(hook: Any, runner: Any) -> None:
    """Take over from the hub what an earlier process noted."""
    if hook.max_keep_ckpts > 0:
        ids = runner.message_hub.runtime_info.get('keep_ckpt_ids', [])
        hook.keep_ckpt_ids = deque(ids, hook.max_keep_ckpts)
    hook.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt', hook.last_ckpt)


def _claim_id(hook: Any, runner: Any, claims: Claims, step: int) -> Claim:
    before, restore_hub = list(hook.keep_ckpt_ids), hub_restorer(runner.message_hub, 'keep_ckpt_ids')

    def take_back() -> None:
        hook.keep_ckpt_ids = deque(before, hook.max_keep_ckpts)
        restore_hub()

    hook.keep_ckpt_ids.append(step)
    runner.message_hub.update_info('keep_ckpt_ids', list(hook.keep_ckpt_ids))
    return claims.add(take_back, 'keep_ckpt_ids')


def _path(hook: Any, name: str) -> str:
    return hook.file_backend.join_path(hook.out_dir, name)
