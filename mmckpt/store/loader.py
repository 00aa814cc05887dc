"""Reads checkpoint files safely, with errors that say what is wrong and what to do."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.torch_version import TorchVersion

from mmckpt.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    IncompatibleCheckpointError,
    near_matches,
)
from mmckpt.store.unit import is_unit

_ZIP_MAGIC = b'PK\x03\x04'
_PICKLE_MAGIC = b'\x80\x02'
# 2.13 refuses a storage that is larger than its record; 2.8 reads past the end of it and dies.
_TORCH_CHECKS_SIZES = TorchVersion(torch.__version__) >= (2, 13)


def load_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Load a checkpoint without executing anything in it.

    Args:
        path (str or Path): The file.
        map_location (Any): As in ``torch.load``. Defaults to 'cpu'.
        mmap (bool): Map the file into memory instead of reading it: fast for a
            look inside, but the tensors stay tied to the file, so copy them
            out of the dict for anything longer. Defaults to False.

    Returns:
        dict: What was saved.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is truncated or altered.
        IncompatibleCheckpointError: If it is not a checkpoint, or holds
            objects that cannot be loaded safely.
    """
    path = Path(path)
    is_zip = _check_kind(path)
    try:
        if is_zip and not _TORCH_CHECKS_SIZES:
            _check_sizes(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and is_zip)
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, error, is_zip) from error
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError,
            MemoryError) as error:
        # What torch says of a zip archive without an end is a bare number of an error.
        reason = _first_line(error) if not is_zip or zipfile.is_zipfile(path) else 'its end is missing'
        raise CorruptCheckpointError(
            f'{path} ({path.stat().st_size} bytes) cannot be read: {reason}. It is truncated or '
            'was altered; use another checkpoint.') from error
    if not isinstance(checkpoint, dict):
        raise IncompatibleCheckpointError(
            f'{path} is not a checkpoint: expected a dict with a state_dict, found a '
            f'{type(checkpoint).__name__}.')
    return checkpoint


def archive_fault(path: Path) -> str | None:
    """Check a file by its own zip checksums; return the reason why it is bad, or None.

    For files of which no digest is known.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except FileNotFoundError:
        return 'the file is missing'
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return f'it is not a whole zip archive ({_first_line(error)})'
    return None if bad is None else f'its part {bad} does not match its checksum'


def _check_kind(path: Path) -> bool:
    """Tell a zip (True) from an old-style torch file (False); raise for anything else."""
    if is_unit(path):
        raise IncompatibleCheckpointError(
            f'{path} is a checkpoint in several files, which a strategy has written and only that strategy can load: '
            'resume with the config of the run, or pass a checkpoint that is a file.')
    if path.is_dir():
        raise CheckpointNotFoundError(
            f'{path} is a directory; pass a checkpoint file in it. {_what_is_in(path)}')
    try:
        with open(path, 'rb') as file:
            head = file.read(4)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointNotFoundError(
            f'There is no file {path}. {_what_is_in(path.parent, path.name)}') from None
    if not head:
        raise CorruptCheckpointError(f'{path} is empty (0 bytes); use another checkpoint.')
    if head == _ZIP_MAGIC:
        return True
    if head[:2] == _PICKLE_MAGIC:
        return False
    raise IncompatibleCheckpointError(
        f'{path} is not a checkpoint: expected a file of torch.save, found one that begins with {head!r}.')


def _check_sizes(path: Path) -> None:
    """Refuse tensors that claim more bytes than the file has.

    A map ends where its file does, and torch refuses tensors that do not fit into it; nothing is read. The meta device
    would do as well, but torch 2.6 looks at the values of sparse tensors.
    """
    torch.load(path, map_location='cpu', weights_only=True, mmap=True)


def _what_is_in(directory: Path, name: str = '') -> str:
    if not directory.is_dir():
        return f'The directory {directory} does not exist either.'
    there = [entry.name for entry in directory.glob('*.pth')]
    if not there:
        return f'{directory} holds no *.pth files.'
    return near_matches(name, there)


def _unpickling_error(path: Path, error: Exception, is_zip: bool) -> Exception:
    found = re.search(r'GLOBAL ([\w.]+)', str(error))
    if found is None or not is_zip:
        return CorruptCheckpointError(
            f'{path} cannot be read: {_first_line(error)}. It is truncated, was altered or is not a '
            'checkpoint; use another one.')
    name = found.group(1)
    return IncompatibleCheckpointError(
        f'{path} holds an object of {name}, which cannot be loaded without running code. If you trust the '
        f'file, allow the class with torch.serialization.add_safe_globals([{name}]) before loading; '
        'otherwise ask its author for a file with tensors and plain values only.')


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip('.')
