"""``CheckpointHook(out_dir='s3://...')``: files go to the work directory first, and from there to the storage."""

from __future__ import annotations

import os
import os.path as osp
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from mmckpt.errors import MMCkptError
from mmckpt.hooks.runner_adapter import broadcast_object, gather_objects
from mmckpt.store import Record
from mmckpt.store.mirror import Mirror
from mmckpt.store.mirror_plan import same_bytes
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory, is_remote, without_password
from mmckpt.store.view import read_view


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
        """Bring the file that rank 0 has chosen to nodes that do not have it; call it on every rank.

        Args:
            logger (Logger): Where the download is said.
            path (str, optional): What rank 0 has chosen; the same on all ranks.

        Raises:
            MMCkptError: On all ranks, if one node could not get it.
        """
        name = Path(path).name if path is not None and Path(path).parent == self.work_dir else None
        wanted = broadcast_object(None if name is None else read_view(self.work_dir).find(name))
        failure = None
        # torchrun, MMEngine's launchers and our command set it; MMEngine's own groups of a node are made by nobody.
        if wanted is not None and not is_main_process() and int(os.environ.get('LOCAL_RANK', 0)) == 0:
            try:
                if not self._has(wanted):
                    pull(RemoteDirectory(self.url), self.work_dir, logger, download=True, name=wanted.name)
            except MMCkptError as error:
                failure = error
        # The others of a node wait here for its first one.
        failures = [error for error in gather_objects(failure) if error is not None]
        if failures:
            raise failures[0]

    def _has(self, wanted: Record) -> bool:
        """Whether this node has a file, and not another one of that name that an earlier run has left."""
        view = read_view(self.work_dir)
        here = view.find(wanted.name)
        return here is not None and same_bytes(here, wanted) and view.check_size(here) is None

    def mirror(self, logger: Any) -> Mirror:
        """Return what copies the work directory's checkpoints there."""
        return Mirror(RemoteDirectory(self.url), self.work_dir, logger)
