"""``CheckpointHook(out_dir='s3://...')``: files go to the work directory first, and from there to the storage."""

from __future__ import annotations

import os.path as osp
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_local_rank, is_main_process

from mmckpt.errors import MMCkptError
from mmckpt.hooks.runner_adapter import broadcast_object
from mmckpt.store.mirror import Mirror
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory, is_remote, without_password


class RemoteOutDir:
    """The remote counterpart of a run's work directory.

    Args:
        url (str): The hook's ``out_dir`` with the name of the work directory behind it, as stock MMEngine has it.
        work_dir (str): The work directory.
    """

    def __init__(self, url: str, work_dir: str) -> None:
        self.url = url
        self.work_dir = Path(work_dir)

    @property
    def shown(self) -> str:
        """The URL without a password, for the log."""
        return without_password(self.url)

    @classmethod
    def of(cls, out_dir: Any, work_dir: str, backend_args: Any) -> RemoteOutDir | None:
        """Return the remote directory that a hook's arguments ask for, or None.

        Args:
            out_dir (str, optional): The hook's ``out_dir``.
            work_dir (str): The work directory.
            backend_args (dict, optional): The hook's ``backend_args`` or ``file_client_args``; with
                them MMEngine's own storage backends are meant.

        Example:
            >>> RemoteOutDir.of('s3://bucket/runs/', 'work_dirs/pose/', None).url
            's3://bucket/runs/pose'
        """
        if backend_args is not None or not is_remote(out_dir):
            return None
        return cls(f'{out_dir.rstrip("/")}/{osp.basename(osp.abspath(work_dir))}', work_dir)

    def pull(self, logger: Any, resume: bool) -> None:
        """Go on where the remote directory is, if it is ahead; call it on every rank.

        Raises:
            RemoteError: If the storage does not answer.
        """
        failure = None
        if is_main_process():
            try:
                pull(RemoteDirectory(self.url), self.work_dir, logger, download=resume)
            except MMCkptError as error:
                failure = error
        failure = broadcast_object(failure)
        if failure is not None:
            raise failure

    def pull_for_other_nodes(self, logger: Any, path: str | None) -> None:
        """Bring the file that rank 0 has chosen to nodes that do not see its disk; call it on every rank."""
        chosen = None if path is None else Path(path)
        if chosen is not None and get_local_rank() == 0 and chosen.parent == self.work_dir and not chosen.is_file():
            pull(RemoteDirectory(self.url), self.work_dir, logger, download=True, name=chosen.name)
        barrier()

    def mirror(self, logger: Any) -> Mirror:
        """Return what copies the work directory's checkpoints there."""
        return Mirror(RemoteDirectory(self.url), self.work_dir, logger)
