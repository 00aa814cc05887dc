"""Whether a checkpoint, a file or a directory, is still what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from mmckpt.store.backend import file_digest
from mmckpt.store.directories import is_directory
from mmckpt.store.loader import archive_fault
from mmckpt.store.record import Record
from mmckpt.store.unit import unit_fault, unit_size


def stored_size(path: Path) -> int:
    """Return the bytes of a checkpoint as records hold them.

    Raises:
        OSError: If it is not there or cannot be read.
    """
    return unit_size(path) if is_directory(path) else path.stat().st_size


def size_fault(path: Path, record: Record) -> str | None:
    """Check that a checkpoint is there with all its bytes, without reading them.

    Args:
        path (Path): Where it is.
        record (Record): What is known of it.

    Returns:
        str, optional: The reason why it is bad, or None if it has the right size.
    """
    try:
        size = stored_size(path)
    except FileNotFoundError:
        return 'the file is missing'
    except OSError as error:
        return f'it cannot be read ({error})'
    return None if size == record.size else f'it has {size} bytes, but {record.size} were written'


def byte_fault(path: Path, record: Record, on_bytes: Callable[[int], None] = lambda size: None) -> str | None:
    """Check every byte of a checkpoint.

    Args:
        path (Path): Where it is.
        record (Record): What is known of it.
        on_bytes (callable): Called with the number of bytes read so far.

    Returns:
        str, optional: The reason why it is bad, or None if it is sound.
    """
    try:
        if record.is_directory:
            # It names the file that is bad.
            return unit_fault(path, record.digest, on_bytes) if is_directory(path) else 'the directory is missing'
        fault = size_fault(path, record)
        if fault is not None or not record.digest:
            return fault or archive_fault(path)
        digest = file_digest(path, on_bytes)
    except FileNotFoundError:
        return 'the file is missing'
    except OSError as error:
        return f'it cannot be read ({error})'
    return None if digest == record.digest else f'its bytes have the digest {digest}, but {record.digest} was written'
