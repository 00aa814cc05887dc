"""Checkpoints of other programs for MMEngine's Runner, which asks for a file and wants its own form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmckpt.errors import IncompatibleCheckpointError, MMCkptError
from mmckpt.files.anatomy import is_weights
from mmckpt.files.content import open_file
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.converted import Converted, Wishes
from mmckpt.store import load_checkpoint
from mmckpt.store.tree import map_tree


def is_own_form(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a loaded checkpoint has the form that MMEngine resumes from, or holds weights in that form."""
    meta = checkpoint.get('meta')
    return isinstance(meta, dict) and 'state_dict' in checkpoint and 'mmcv_version' not in meta or (
        isinstance(meta, dict) and 'message_hub' in checkpoint)


def has_other_form(path: str) -> bool:
    """Whether a local file is a checkpoint that MMEngine could not resume from as it is."""
    if not os.path.isfile(os.path.expanduser(path)):
        return False
    try:
        return not is_own_form(load_checkpoint(os.path.expanduser(path), mmap=True))
    except IncompatibleCheckpointError:
        return True
    except MMCkptError:
        return False


def needs_conversion(path: str) -> bool:
    """Whether a local file holds weights that MMEngine would not find or could not load."""
    if not os.path.isfile(os.path.expanduser(path)):
        return False
    try:
        checkpoint = load_checkpoint(os.path.expanduser(path), mmap=True)
    except IncompatibleCheckpointError:
        return True
    except MMCkptError:
        return False
    return not is_weights(checkpoint) and not is_weights(checkpoint.get('state_dict'))


def read_foreign(path: str | os.PathLike, map_location: Any = 'cpu', optimizers: Sequence[str] = ()) -> Converted:
    """Read a checkpoint of any kind in MMEngine's form, as ``mmckpt convert`` without a map would write it.

    Args:
        path (str or Path): The file.
        map_location (Any): A device for the tensors; functions and dicts, as
            ``torch.load`` takes them, leave them on the CPU. Defaults to 'cpu'.
        optimizers (Sequence[str]): Names of the optimizers here, where there
            are several; they are matched in order. Defaults to those in the file.

    Returns:
        Converted: The checkpoint, and what was kept and lost.

    Raises:
        IncompatibleCheckpointError: If it holds no weights, or loading it the
            old way would run code.
        UsageError: If it has an optimizer and does not say how far training was.
    """
    content = open_file(path)
    if content.dangerous:
        name = next(iter(content.dangerous))
        raise IncompatibleCheckpointError(
            f'{path} would call {name} if it were loaded the old way: it is hostile, or made by something that no '
            f'training needs. Nothing was loaded; look at it with: mmckpt inspect {path}')
    converted = to_mmengine(content, Wishes(optimizers=optimizers))
    if str(map_location) != 'cpu' and isinstance(map_location, (str, torch.device)):
        converted.checkpoint = map_tree(converted.checkpoint, lambda tensor: tensor.to(map_location))
    return converted
