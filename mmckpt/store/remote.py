"""A directory on a remote storage that fsspec reaches: S3, Google Cloud, memory, another mount."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import fsspec

from mmckpt.errors import RemoteError
from mmckpt.store.backend import LocalBackend, Written, write_temporary
from mmckpt.store.index import INDEX_NAME, BrokenIndexError, Index, dump_index, parse_index
from mmckpt.store.record import Record, check_name

# Bytes of one request; a smaller one pays the way to the server more often.
_CHUNK = 1 << 24
# MMEngine reads these itself; it cannot write the last two.
_NOT_OURS = ('petrel', 'http', 'https')


def is_remote(path: Any) -> bool:
    """Whether a path is the URL of a storage that a :class:`RemoteDirectory` can be made for.

    Example:
        >>> is_remote('s3://bucket/runs'), is_remote('memory://runs'), is_remote('work_dirs/run'), is_remote(None)
        (True, True, False, False)
        >>> is_remote('petrel://bucket/runs')
        False
    """
    scheme, found, _ = str(path).partition('://')
    return bool(found) and scheme not in _NOT_OURS


def without_password(url: str) -> str:
    """Return a URL as it may be shown in a log.

    Example:
        >>> without_password('sftp://me:secret@host/runs'), without_password('s3://bucket/runs')
        ('sftp://me:***@host/runs', 's3://bucket/runs')
    """
    return re.sub(r'^(\w[\w+.-]*://[^/@:]*):[^/]*@', r'\1:***@', url)


class RemoteDirectory:
    """The checkpoints of one run on a remote storage, with an index beside them.

    Args:
        url (str): Where, such as ``'s3://bucket/runs/pose'``. Credentials and endpoints come from the
            environment, as fsspec's file system for it defines.

    Raises:
        RemoteError: If nothing that is installed can reach such a URL.

    Example:
        >>> remote = RemoteDirectory('memory://doctest/run')
        >>> remote.write_index(Index(last_seq=3))
        >>> remote.read_index().last_seq
        3
    """

    def __init__(self, url: str) -> None:
        # What is said of it in logs and errors.
        self.url = without_password(url.rstrip('/'))
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url.rstrip('/'))
        except (ImportError, ValueError) as error:
            raise RemoteError(f"{self.url} cannot be reached: {error}. s3:// needs pip install 'mmckpt[remote]', gs:// "
                              'pip install gcsfs; out_dir may also be a directory of this machine.') from error

    def read_index(self) -> Index | None:
        """Return the index, or None where there is none yet.

        Raises:
            RemoteError: If the storage does not answer, or the index cannot be trusted.
            IncompatibleCheckpointError: If a newer mmckpt wrote it.
        """
        try:
            text = self._fs.cat_file(self._path(INDEX_NAME)).decode()
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._unreadable(error) from error
        try:
            return parse_index(text)
        except BrokenIndexError as error:
            raise RemoteError(f'{INDEX_NAME} of {self.url} is broken: {error}. The checkpoints beside it may be '
                              'sound: copy one here and pass it as --resume-from, or choose another out_dir.'
                              ) from error

    def write_index(self, index: Index) -> None:
        """Replace the index."""
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.pipe_file(self._path(INDEX_NAME), dump_index(index).encode())

    def upload(self, local: Path, record: Record) -> None:
        """Copy a file there under its name.

        Raises:
            FileNotFoundError: If the local file is gone.
            OSError: If the copy has another size than its record says.
        """
        target = self._path(record.name)
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.put_file(str(local), target)
        self._fs.invalidate_cache(target)
        size = self._fs.info(target)['size']
        if size != record.size:
            raise OSError(f'{target} has {size} bytes after the upload, but {record.size} were expected')

    def names(self) -> list[str]:
        """Return the names of all files that are there."""
        self._fs.invalidate_cache(self._root)
        try:
            return [path.rstrip('/').rpartition('/')[2] for path in self._fs.ls(self._root, detail=False)]
        except FileNotFoundError:
            return []

    def copy(self, source: str, name: str) -> None:
        """Give a file that is there already a second name; the bytes do not travel."""
        self._fs.cp_file(self._path(source), self._path(name))

    def remove(self, name: str) -> None:
        """Remove a file that may be gone already."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            pass

    def download(self, name: str, target: Path) -> tuple[Path, Written]:
        """Bring a file here, durably, under a temporary name beside ``target``.

        Returns:
            tuple: The temporary path, and size and digest of what came.
        """
        with self._fs.open(self._path(name), 'rb', block_size=_CHUNK) as source:
            return write_temporary(LocalBackend(), target, lambda file: shutil.copyfileobj(source, file, _CHUNK))

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, or None if it is not there.

        Raises:
            RemoteError: If the storage does not answer.
        """
        try:
            return self._fs.info(self._path(name))['size']
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._unreadable(error) from error

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return some bytes of a file.

        Raises:
            RemoteError: If the storage does not answer.
        """
        try:
            return self._fs.cat_file(self._path(name), start=start, end=end)
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> RemoteError:
        return RemoteError(f'{self.url} cannot be read: {type(error).__name__}: {error}. Check the address, the '
                           'network and the credentials, or choose an out_dir on this machine.')

    def _path(self, name: str) -> str:
        check_name(name)
        return f'{self._root}/{name}'
