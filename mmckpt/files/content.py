"""Opens any checkpoint file and tells what it holds, without running or loading it."""

from __future__ import annotations

import mmap
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, IncompatibleCheckpointError, near_matches
from mmckpt.files.archive import TorchArchive
from mmckpt.files.bounded import bounded
from mmckpt.files.budget import Budget
from mmckpt.files.distributed import METADATA, read_distributed
from mmckpt.files.legacy import read_legacy
from mmckpt.files.meaning import Meaning
from mmckpt.files.safetensors import looks_like_safetensors, read_safetensors

SUFFIXES = ('.pth', '.pt', '.ckpt', '.bin', '.safetensors', '.pkl')


@dataclass(frozen=True)
class Content:
    """What a checkpoint file holds.

    Args:
        path (Path): The file, or the directory of a sharded checkpoint.
        container (str): ``'torch file'``, ``'old torch file'``, ``'pickle'``,
            ``'safetensors'`` or ``'sharded checkpoint'``.
        size (int): Bytes on the disk.
        tree (Any): Dicts, lists, tuples, texts and numbers;
            :class:`~mmckpt.files.nodes.TensorRef` for tensors and
            :class:`~mmckpt.files.nodes.Opaque` for objects of any other class.
        metadata (dict[str, str]): The header's texts, of a safetensors file.
        notes (list[str]): What is odd about the file.
        classes (dict[str, str]): Classes and functions that loading it the old
            way would call, beyond tensors and plain data, with arguments.
        dangerous (dict[str, str]): Those of them that can run any code.
    """

    path: Path
    container: str
    size: int
    tree: Any
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    dangerous: dict[str, str] = field(default_factory=dict)


def open_file(path: str | os.PathLike) -> Content:
    """Tell what a checkpoint holds.

    Nothing in the file is imported, called or unpacked, and no tensor is
    read: the cost is that of the file's structure, and it is bounded.

    Args:
        path (str or Path): A file of ``torch.save`` (new or old), a bare
            pickle, a safetensors file, or a directory of
            ``torch.distributed.checkpoint``.

    Returns:
        Content: Its structure.

    Raises:
        CheckpointNotFoundError: If there is nothing at that path.
        CorruptCheckpointError: If it is truncated, altered, or would cost
            more than a checkpoint can.
        IncompatibleCheckpointError: If it is another kind of file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _open_directory(path)
        with mapped(path) as data:
            return _open(path, data)
    except (CorruptCheckpointError, IncompatibleCheckpointError) as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f'{path}: {error}') from error
    except MemoryError as error:
        raise CorruptCheckpointError(f'{path} asks for more memory than there is: it is broken or hostile') from error


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a file into memory for reading."""
    try:
        with open(path, 'rb') as file:
            if not os.fstat(file.fileno()).st_size:
                raise CorruptCheckpointError(f'{path} is empty (0 bytes)')
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, NotADirectoryError):
        near = [f.name for f in path.parent.glob('*') if f.suffix in SUFFIXES] if path.parent.is_dir() else []
        raise CheckpointNotFoundError(f'{path} does not exist. {near_matches(path.name, near)}') from None
    try:
        yield data
    finally:
        try:
            data.close()
        except BufferError:
            # Arrays look into it still; it is closed when they are gone.
            pass


def _open(path: Path, data: Any) -> Content:
    meaning, budget, notes = Meaning(), Budget(), []
    metadata: dict[str, str] = {}
    if data[:4] == b'PK\x03\x04':
        archive = TorchArchive(data, str(path))
        container, tree, notes = 'torch file', archive.read(meaning, budget), archive.notes
    elif looks_like_safetensors(data):
        container = 'safetensors'
        tree, metadata = read_safetensors(data, str(path))
    elif data[:1] == b'\x80' or data[:1] in (b'(', b']', b'}', b'c'):
        container, tree = read_legacy(data, str(path), meaning, budget)
    elif len(data) > 512 and tarfile.is_tarfile(path):
        raise IncompatibleCheckpointError('it is a tar file: torch 0.1 wrote such ones; load and save it with an old '
                                          'torch first')
    else:
        raise IncompatibleCheckpointError(
            f'it is no checkpoint: expected a file of torch.save, a safetensors file or a pickle, found one that '
            f'begins with {bytes(data[:8])!r}')
    if container == 'safetensors':
        end = max((t.storage.place.start + t.storage.place.nbytes for t in tree.values() if t.storage.place), default=0)
        if any(t.storage.place is None for t in tree.values()) or end > len(data):
            notes.append('it is truncated: some of its tensors lie behind its end')
    return Content(path, container, len(data), bounded(tree, notes), metadata, notes, meaning.called,
                   meaning.dangerous)


def _open_directory(path: Path) -> Content:
    if not (path / METADATA).is_file():
        names = [f.name for f in path.iterdir() if f.suffix in SUFFIXES]
        raise CheckpointNotFoundError(
            f'{path} is a directory without {METADATA}, so it is no sharded checkpoint; pass a file in it. '
            + near_matches('', names))
    meaning = Meaning()
    tree, size, notes = read_distributed(path, meaning, Budget())
    own = {n: a for n, a in meaning.called.items() if not n.startswith('torch.distributed.')}
    return Content(path, 'sharded checkpoint', size, bounded(tree, notes), {}, notes, own,
                   {n: a for n, a in own.items() if n in meaning.dangerous})
