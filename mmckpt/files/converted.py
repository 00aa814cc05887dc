"""What a conversion is told, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmckpt.errors import IncompatibleCheckpointError, UsageError
from mmckpt.files.key_rules import KeyRules


@dataclass(frozen=True)
class Wishes:
    """What a conversion is told.

    Args:
        rules (KeyRules): How names of weights change. Defaults to not at all.
        metrics (Mapping[str, str]): New name of a metric, by its name in the file. Defaults to none.
        epoch (int, optional): Completed epochs, instead of what the file says.
        iter (int, optional): Completed iterations, instead of what the file says.
        weights_only (bool): Whether training state is left out. Defaults to False.
        optimizers (Sequence[str]): Names in the new project, in the order of the file, where there are several
            optimizers. Defaults to those in the file, if it has some.
    """

    rules: KeyRules = field(default_factory=KeyRules)
    metrics: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    iter: int | None = None
    weights_only: bool = False
    optimizers: Sequence[str] = ()


@dataclass
class Converted:
    """A checkpoint in MMEngine's form, and what became of its parts.

    Args:
        checkpoint (dict): Can be resumed from if it has an ``optimizer``.
        kept (dict[str, str]): Part by part, what is there now.
        lost (dict[str, str]): Part by part, what could not be mapped and why.
    """

    checkpoint: dict[str, Any]
    kept: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


def chosen_weights(checkpoint: Mapping[str, Any], which: str) -> dict[str, torch.Tensor]:
    """Return one of the sets of weights of a checkpoint in MMEngine's form.

    Args:
        checkpoint (Mapping): The checkpoint.
        which (str): ``'file'`` for what is loaded as the model's, ``'ema'``
            for the average, ``'raw'`` for the weights in training.

    Raises:
        IncompatibleCheckpointError: If it holds one set only, and another one is asked for.
        UsageError: If ``which`` is something else.
    """
    if which not in ('file', 'ema', 'raw'):
        raise UsageError(f"expected 'file', 'ema' or 'raw', got {which!r}")
    weights: dict[str, torch.Tensor] = checkpoint['state_dict']
    own = checkpoint.get('ema_state_dict')
    if which == 'file' or (which == 'ema' and own is not None):
        # MMEngine keeps the average where it is loaded from.
        return weights
    if own is None:
        raise IncompatibleCheckpointError(
            f"the file holds one set of weights only, no average and no weights beside it, and {which!r} is asked for")
    return {**weights, **{k[7:]: v for k, v in own.items() if k.startswith('module.') and k[7:] in weights}}
