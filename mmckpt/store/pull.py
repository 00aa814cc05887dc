"""Goes on, on this machine, with a run that a remote directory holds."""

from __future__ import annotations

import os
from dataclasses import replace
from logging import Logger
from pathlib import Path

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, RemoteError, near_matches
from mmckpt.store.backend import LocalBackend, file_digest, rename, write_text_durably
from mmckpt.store.index import INDEX_NAME, BrokenIndexError, Index, dump_index, read_index
from mmckpt.store.lock import DirectoryLock
from mmckpt.store.mirror_plan import same_bytes
from mmckpt.store.record import Record, newest_first
from mmckpt.store.remote import RemoteDirectory


def pull(remote: RemoteDirectory, directory: Path, logger: Logger, *, download: bool,
         name: str | None = None) -> Record | None:
    """Let a local directory go on where a remote one is, if that is ahead.

    The history (numbers of runs, attempts and commits) is taken over, so that
    both places can be told apart later. Where the local directory is as far
    or farther, nothing is done.

    Args:
        remote (RemoteDirectory): The remote directory.
        directory (Path): The local directory; made if need be.
        logger (Logger): Where downloads and rejected files are said.
        download (bool): Whether to bring the newest valid checkpoint here, too.
        name (str, optional): The checkpoint to bring instead of the newest. Defaults to None.

    Returns:
        Record, optional: The checkpoint that was brought or is here already; None if nothing was done.

    Raises:
        RemoteError: If the remote storage does not answer.
        CheckpointNotFoundError: If there is no checkpoint ``name``.
        CorruptCheckpointError: If the remote directory has checkpoints, but none arrives whole.
        LockedError: If another process trains into the local directory.
    """
    there, here = remote.read_index(), local_index(directory)
    wanted = wanted_of(remote, there, here, name)
    if there is None or wanted is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock(directory, logger)
    lock.acquire()
    try:
        brought = _bring_first_valid(remote, wanted, here, directory, logger) if download else None
        kept = {n: r for n, r in there.records.items() if same_bytes(here.records.get(n), r)}
        if brought is not None:
            kept[brought.name] = brought
        text = dump_index(replace(there, records=kept, leftovers=()))
        write_text_durably(LocalBackend(), directory / INDEX_NAME, text)
    finally:
        lock.release()
    return brought


def wanted_of(remote: RemoteDirectory, there: Index | None, here: Index, name: str | None) -> list[Record] | None:
    """Return the remote checkpoints that a resume would take, best first; None if the local directory is as far.

    Args:
        remote (RemoteDirectory): For the message.
        there (Index, optional): Its index.
        here (Index): That of the local directory.
        name (str, optional): The checkpoint that was asked for; None for the newest.

    Raises:
        CheckpointNotFoundError: If there is no checkpoint ``name``.
    """
    if name is not None and (there is None or name not in there.records):
        raise CheckpointNotFoundError(
            f'{remote.url} has no checkpoint {name}. {near_matches(name, there.records if there else ())}')
    if there is None or (name is None and here.last_seq >= there.last_seq):
        return None
    return [there.records[name]] if name is not None else newest_first(there.records.values())


def local_index(directory: Path) -> Index:
    """Return the index of a local directory; an empty one where there is none, or a broken one."""
    try:
        return read_index(directory) or Index()
    except BrokenIndexError:
        # The remote one is whole, and better than what a rebuild could tell.
        return Index()


def _bring_first_valid(remote: RemoteDirectory, records: list[Record], here: Index, directory: Path,
                       logger: Logger) -> Record | None:
    for record in records:
        path = directory / record.name
        if same_bytes(here.records.get(record.name), record) and _is_whole(path, record):
            return record
        reason = _download(remote, record, path)
        if reason is None:
            logger.info('Downloaded %s from %s.', record.name, remote.url)
            return record
        logger.warning('%s/%s is skipped: %s.', remote.url, record.name, reason)
    if records:
        raise CorruptCheckpointError(
            f'None of the {len(records)} checkpoints in {remote.url} arrived as it was written (the log says why for '
            'each). Pass --resume-from FILE to choose another file, or train without --resume to start anew.')
    return None


def _is_whole(path: Path, record: Record) -> bool:
    return path.is_file() and os.stat(path).st_size == record.size and file_digest(path) == record.digest


def _download(remote: RemoteDirectory, record: Record, target: Path) -> str | None:
    """Bring a file here; return the reason why it is not what was written there."""
    backend = LocalBackend()
    try:
        temporary, came = remote.download(record.name, target)
    except FileNotFoundError:
        return 'the file is missing'
    except Exception as error:
        raise RemoteError(f'{record.name} could not be downloaded from {remote.url}: {type(error).__name__}: {error}. '
                          'Try again, or pass a file of this machine as --resume-from.') from error
    if came.size != record.size or (record.digest and came.digest != record.digest):
        backend.remove(temporary)
        return (f'{came.size} bytes with the digest {came.digest} came, but {record.size} with {record.digest} '
                'were written')
    rename(backend, temporary, target)
    backend.sync_directory(target.parent)
    return None
