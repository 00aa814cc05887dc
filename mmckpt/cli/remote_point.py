"""The remote checkpoint that a resume would download, looked at where it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmckpt.cli.console import say
from mmckpt.cli.resume import ResumePoint, remote_out_dir, remote_parts, seed_of_training_state
from mmckpt.errors import CorruptCheckpointError
from mmckpt.store import Record
from mmckpt.store.index import Index
from mmckpt.store.pull import local_index, wanted_of
from mmckpt.store.remote import RemoteDirectory, is_remote, without_password
from mmckpt.store.remote_outline import fetch_outline
from mmckpt.store.space import megabytes


@dataclass(frozen=True)
class RemotePoint:
    """Where training would go on from, on a remote storage.

    Args:
        url (str): The remote directory.
        record (Record): The checkpoint.
    """

    url: str
    record: Record

    @contextmanager
    def outline(self) -> Iterator[tuple[ResumePoint, str]]:
        """Bring its structure here for a while, without its tensors.

        Yields:
            tuple: The point, by its URL, and a local file with that structure.
        """
        path = f'{without_password(self.url)}/{self.record.name}'
        with tempfile.TemporaryDirectory(prefix='mmckpt-look-') as folder:
            file = Path(folder, self.record.name)
            read = fetch_outline(RemoteDirectory(self.url), self.record, file)
            say(f'{path}: reads {megabytes(read)} of {megabytes(self.record.size)}, all but the tensors; every byte is '
                'checked when it is resumed from.')
            yield ResumePoint(path, seed_of_training_state(file)), str(file)


def find_remote_point(cfg: Config, asked: str) -> RemotePoint | None:
    """Find the remote checkpoint that a resume would download; nothing is written.

    Args:
        cfg (Config): The config, with its ``work_dir``.
        asked (str): As for :func:`mmckpt.cli.resume.find_resume_point`.

    Returns:
        RemotePoint or None: None if it would take a file of this machine.

    Raises:
        CheckpointNotFoundError: If there is no checkpoint of that name.
        CorruptCheckpointError: If none has the size that was written.
    """
    if is_remote(asked):
        (remote, name), here = remote_parts(asked), Index()
        url = asked.rstrip('/') if name is None else asked.rstrip('/').rpartition('/')[0]
    elif asked == 'auto' and remote_out_dir(cfg) is not None:
        url = remote_out_dir(cfg).url
        remote, name, here = RemoteDirectory(url), None, local_index(Path(cfg.work_dir))
    else:
        return None
    wanted = wanted_of(remote, remote.read_index(), here, name)
    if not wanted:
        return None
    whole = next((record for record in wanted if remote.size(record.name) == record.size), None)
    if whole is None:
        raise CorruptCheckpointError(f'None of the {len(wanted)} checkpoints in {remote.url} has the size that was '
                                     'written. Pass --resume-from FILE to choose another file.')
    return RemotePoint(url, whole)
