"""Makes the index of a directory out of the checkpoint files that lie in it."""

from __future__ import annotations

import re
from dataclasses import replace
from logging import Logger
from pathlib import Path
from typing import Any

from mmckpt.errors import MMCkptError
from mmckpt.store.backend import file_digest
from mmckpt.store.checks import stored_size
from mmckpt.store.index import Index
from mmckpt.store.loader import archive_fault, load_checkpoint
from mmckpt.store.record import FOREIGN, PERIODIC, Record
from mmckpt.store.unit import STATE, is_unit, read_manifest, unit_fault

PATTERN = '*.pth'


def rebuild_index(directory: Path, logger: Logger, trust: bool = False) -> Index:
    """Read every checkpoint of a directory and number them by epoch, iteration and age.

    What only the index knew is lost: results of validations (an unfinished
    one will be run again), and which run a file belongs to. Which files are
    bests, by which scores and rules, is noted in the files that were written
    after them, and in themselves.

    Args:
        directory (Path): The directory; only its ``*.pth`` files are looked at.
        logger (Logger): Files that are not taken in are named there.
        trust (bool): Leave out the check of every byte and the digests; a file
            is then checked when it is asked for. Defaults to False.

    Returns:
        Index: Records of the files that hold a checkpoint.
    """
    found, notes = [], {}
    for path in sorted(directory.glob(PATTERN)):
        checkpoint = _checkpoint_of(path, logger, trust)
        if checkpoint is not None:
            digest = read_manifest(path).digest if is_unit(path) else '' if trust else file_digest(path)
            found.append(_describe(path, checkpoint, digest))
            notes.update(_notes_of(checkpoint))
    found = [_with_note(record, notes.get((record.name, record.epoch, record.iter))) for record in found]
    found.sort(key=lambda record: (record.epoch, record.iter, record.time, PERIODIC in record.roles))
    return Index().with_records(replace(record, seq=i) for i, record in enumerate(found, start=1))


def _notes_of(checkpoint: dict[str, Any]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """What a file of ours tells of the bests of its run, by name and step."""
    ours = checkpoint.get('mmckpt')
    notes = ours.get('bests') if isinstance(ours, dict) else None
    return {(note['name'], note['epoch'], note['iter']): note
            for note in (notes if isinstance(notes, list) else []) if _is_note(note)}


def _is_note(note: Any) -> bool:
    """Whether a note can be taken; any file may lie in the directory, and none may keep the index from being made."""
    kinds = dict(name=str, epoch=int, iter=int, roles=list, scores=dict, rules=dict, metrics=dict)
    return (isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in kinds.items())
            and all(isinstance(role, str) for role in note['roles'])
            and all(isinstance(value, (int, float)) for value in (*note['scores'].values(), *note['metrics'].values()))
            and all(rule in ('greater', 'less') for rule in note['rules'].values()))


def _with_note(record: Record, note: dict[str, Any] | None) -> Record:
    if note is None or FOREIGN in record.roles:
        return record
    return replace(record, roles=tuple(note['roles']), scores=dict(note['scores']), rules=dict(note['rules']),
                   metrics=dict(note['metrics']))


def _checkpoint_of(path: Path, logger: Logger, trust: bool) -> dict[str, Any] | None:
    if path.is_symlink() or not (path.is_file() or is_unit(path)):
        return None
    # Of a directory, what tells step and bests is in a file of ours.
    told_by = path / STATE if path.is_dir() else path
    try:
        fault = _fault(path, trust)
        if fault is None:
            checkpoint = load_checkpoint(told_by, mmap=True)
    except (MMCkptError, OSError, ValueError) as error:
        fault = str(error)
    if fault is not None:
        logger.warning('%s is not taken into the index: %s', path.name, fault)
        return None
    if ('state_dict' not in checkpoint and told_by == path) or 'meta' not in checkpoint:
        return None
    return checkpoint


def _fault(path: Path, trust: bool) -> str | None:
    if path.is_dir():
        # The digest is that of the manifest, so that one must be readable in any case.
        return None if trust and read_manifest(path) else unit_fault(path, None)
    return None if trust else archive_fault(path)


def _describe(path: Path, checkpoint: dict[str, Any], digest: str) -> Record:
    meta, ours, status = checkpoint['meta'], checkpoint.get('mmckpt'), path.stat()
    return Record(
        name=path.name, seq=0, run=1, attempt=0, epoch=_count(meta, 'epoch'), iter=_count(meta, 'iter'),
        time=status.st_mtime, size=stored_size(path), digest=digest,
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
