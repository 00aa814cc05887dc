"""The periodic files of a ``CheckpointHook``: names, the list of kept ones, and which is the last."""

from __future__ import annotations

from collections import deque
from typing import Any

from mmckpt.hooks.runner_adapter import progress_between
from mmckpt.hooks.step_writer import StepWriter
from mmckpt.progress import Progress


def save_periodic(hook: Any, runner: Any, writer: StepWriter, progress: Progress, val_pending: bool) -> None:
    """Write the file of a step, and note it where MMEngine does."""
    step = progress.count(hook.by_epoch)
    if hook.max_keep_ckpts > 0 and step not in hook.keep_ckpt_ids:
        hook.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(hook.keep_ckpt_ids))
    writer.write(point_last(hook, runner, step), progress, roles=('periodic',), val_pending=val_pending)


def save_unsaved_end(hook: Any, runner: Any, writer: StepWriter) -> None:
    """Early stopping ends a run between two intervals; stock would leave no file of its end."""
    progress = progress_between(runner)
    step = progress.count(hook.by_epoch)
    name = hook.filename_tmpl.format(step)
    if step > 0 and hook.last_ckpt != hook.file_backend.join_path(hook.out_dir, name):
        save_periodic(hook, runner, writer, progress, val_pending=False)


def point_last(hook: Any, runner: Any, step: int) -> str:
    """Let the file of a step be the last one, on the hook and in the hub; return its name."""
    name = hook.filename_tmpl.format(step)
    hook.last_ckpt = hook.file_backend.join_path(hook.out_dir, name)
    runner.message_hub.update_info('last_ckpt', hook.last_ckpt)
    return name


def resume_last(hook: Any, runner: Any) -> None:
    """Take over from the hub what an earlier process noted."""
    if hook.max_keep_ckpts > 0:
        ids = runner.message_hub.runtime_info.get('keep_ckpt_ids', [])
        hook.keep_ckpt_ids = deque(ids, hook.max_keep_ckpts)
    hook.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt', hook.last_ckpt)
