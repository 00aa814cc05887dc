"""Writes whole files: under a temporary name, synced, and only then under their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import torch

from mmckpt.errors import SaveError, UsageError
from mmckpt.files.safetensors import write_safetensors
from mmckpt.state.plain import from_json, to_json, to_plain
from mmckpt.store.backend import LocalBackend, rename, write_temporary
from mmckpt.store.serialize import write_state

# Under this name meta travels in the header of a safetensors file.
META = 'mmckpt.meta'


def write_file(path: Path, checkpoint: dict[str, Any], name_of: Callable[[str], Path] | None = None,
               overwrite: bool = False) -> Path:
    """Write a checkpoint durably: the file is whole or not there, also after a power cut.

    Args:
        path (Path): ``.safetensors`` for weights and ``meta`` in that format; all else is written by ``torch.save``.
        checkpoint (dict): What to write.
        name_of (callable, optional): Gives the final path for the SHA-256 of
            the bytes (64 hex digits). Defaults to None, ``path``.
        overwrite (bool): Whether an existing file may be replaced. Defaults to False.

    Returns:
        Path: Where it lies now.

    Raises:
        UsageError: If the file is there already, or cannot be written there.
    """
    path = Path(path)
    if name_of is None and path.exists() and not overwrite:
        raise UsageError(f'{path} is there already; pass --force to replace it')
    backend = LocalBackend()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, _ = write_temporary(backend, path, lambda file: _produce(path, checkpoint, file))
        try:
            target = path if name_of is None else name_of(_sha256(temporary))
            if target.exists() and not overwrite and name_of is None:
                raise UsageError(f'{target} is there already; pass --force to replace it')
        except BaseException:
            backend.remove(temporary)
            raise
        rename(backend, temporary, target)
        backend.sync_directory(target.parent)
    except OSError as error:
        raise UsageError(f'{path} cannot be written: {error}') from error
    except (ValueError, SaveError) as error:
        raise UsageError(f'{path} cannot be written: {error}') from error
    return target


def meta_of_header(metadata: dict[str, str]) -> dict[str, Any]:
    """Return the ``meta`` that :func:`write_file` put into a safetensors header; {} if there is none."""
    try:
        meta = from_json(json.loads(metadata.get(META, '{}')))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _produce(path: Path, checkpoint: dict[str, Any], file: Any) -> None:
    if path.suffix != '.safetensors':
        write_state(checkpoint, file)
        return
    weights = checkpoint['state_dict']
    dense = {name: t.detach().cpu() for name, t in weights.items() if isinstance(t, torch.Tensor)}
    meta = json.dumps(to_json(to_plain(checkpoint.get('meta', {}))))
    write_safetensors(dense, {'format': 'pt', META: meta}, file)


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with open(path, 'rb') as file:
        while True:
            piece = file.read(1 << 22)
            if not piece:
                return hashed.hexdigest()
            hashed.update(piece)
