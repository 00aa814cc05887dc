"""Makes the index of a directory out of the checkpoint files that lie in it."""

from __future__ import annotations

import re
from dataclasses import replace
from logging import Logger
from pathlib import Path
from typing import Any

from mmckpt.errors import MMCkptError
from mmckpt.store.backend import file_digest
from mmckpt.store.index import Index
from mmckpt.store.loader import archive_fault, load_checkpoint
from mmckpt.store.record import FOREIGN, PERIODIC, Record

PATTERN = '*.pth'


def rebuild_index(directory: Path, logger: Logger, trust: bool = False) -> Index:
    """Read every checkpoint of a directory and number them by epoch, iteration and age.

    What only the index knew is lost: results of validations (an unfinished
    one will be run again), and which run a file belongs to.

    Args:
        directory (Path): The directory; only its ``*.pth`` files are looked at.
        logger (Logger): Files that are not taken in are named there.
        trust (bool): Leave out the check of every byte and the digests; a file
            is then checked when it is asked for. Defaults to False.

    Returns:
        Index: Records of the files that hold a checkpoint.
    """
    found = []
    for path in sorted(directory.glob(PATTERN)):
        record = _record_of(path, logger, trust)
        if record is not None:
            found.append(((record.epoch, record.iter, record.time, PERIODIC in record.roles), record))
    found.sort(key=lambda item: item[0])
    return Index().with_records(replace(record, seq=i) for i, (_, record) in enumerate(found, start=1))


def _record_of(path: Path, logger: Logger, trust: bool) -> Record | None:
    if path.is_symlink() or not path.is_file():
        return None
    fault = None if trust else archive_fault(path)
    if fault is None:
        try:
            checkpoint = load_checkpoint(path, mmap=True)
        except (MMCkptError, OSError) as error:
            fault = str(error)
    if fault is not None:
        logger.warning('%s is not taken into the index: %s', path.name, fault)
        return None
    if 'state_dict' not in checkpoint or 'meta' not in checkpoint:
        return None
    return _describe(path, checkpoint, '' if trust else file_digest(path))


def _describe(path: Path, checkpoint: dict[str, Any], digest: str) -> Record:
    meta, ours, status = checkpoint['meta'], checkpoint.get('mmckpt'), path.stat()
    return Record(
        name=path.name, seq=0, run=1, attempt=0, epoch=_count(meta, 'epoch'), iter=_count(meta, 'iter'),
        time=status.st_mtime, size=status.st_size, digest=digest,
        roles=(FOREIGN,) if ours is None else (role_from_name(path.name),),
        val_pending=bool(ours and ours.get('val_pending')))


def role_from_name(name: str) -> str:
    """Tell what a file of ours was kept for.

    Example:
        >>> role_from_name('best_coco_AP_epoch_7.pth'), role_from_name('epoch_7.pth')
        ('best:coco_AP', 'periodic')
    """
    best = re.match(r'best_(.+)_(?:epoch|iter)_\d+\.', name) or re.match(r'best_(.+)\.', name)
    return f'best:{best.group(1)}' if best else PERIODIC


def _count(meta: Any, key: str) -> int:
    value = meta.get(key, 0) if isinstance(meta, dict) else 0
    return value if isinstance(value, int) else 0
