"""The parts of a checkpoint, and how to recognise a few of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.nodes import ArrayRef, TensorRef
from mmckpt.files.special import SparseRef
from mmckpt.files.values import ValueReader


@dataclass(frozen=True)
class Best:
    """The best value of a metric.

    Args:
        score (float): The value.
        path (str): The file that has it, or ''.
    """

    score: float
    path: str = ''


@dataclass
class Anatomy:
    """The parts of a checkpoint.

    Args:
        form (str): ``'MMEngine'``, ``'Lightning'``, ``'mmcv 1.x'``, ``'hand-written'``, ``'weights'`` or
            ``'unknown'``.
        weights (dict): Tensors by name, as the file has them.
        weights_at (str): The key that holds them; '' if the file is nothing else.
        raw (dict or None): Weights of the model in training, where ``weights`` are an average of them.
        averaged (dict or None): Averaged weights, where ``weights`` are those of the model in training.
        averages (int or None): Updates of the average so far.
        optimizers (list[dict]): States of optimizers.
        optimizer_names (list[str]): Their names, if the file has some.
        schedulers (list[dict]): States of schedulers.
        epoch (int or None): Completed epochs.
        iter (int or None): Completed iterations.
        best (dict[str, Best]): Best scores by metric.
        stopping (dict): Of early stopping: ``monitor``, ``rule``, ``wait_count``, ``patience``, ``best_score``.
        callbacks (dict): States of callbacks or hooks, by name.
        config (str or None): Text of the config.
        hyper_parameters (dict): What the model was built with.
        versions (dict[str, str]): Of what wrote the file.
        rest (list[str]): Top-level keys that are none of these.
        guesses (list[str]): What was inferred, and from what.
    """

    form: str
    weights: dict[str, Any] = field(default_factory=dict)
    weights_at: str = ''
    raw: dict[str, Any] | None = None
    averaged: dict[str, Any] | None = None
    averages: int | None = None
    optimizers: list[dict] = field(default_factory=list)
    optimizer_names: list[str] = field(default_factory=list)
    schedulers: list[Any] = field(default_factory=list)
    epoch: int | None = None
    iter: int | None = None
    best: dict[str, Best] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    config: str | None = None
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)


def number(value: Any) -> float | None:
    """Return the number that a scalar is, also one in a tensor that lies in a file; None for anything else."""
    try:
        if isinstance(value, TensorRef) and value.numel == 1 and not isinstance(value, SparseRef):
            value = ValueReader().tensor(value)
        elif isinstance(value, ArrayRef):
            value = ValueReader().array(value, {}, '')
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            value = value.item() if len(value.reshape(-1)) == 1 else None
    except (CorruptCheckpointError, ValueError, TypeError, OSError):
        return None
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if plain else None
    except OverflowError:
        return None


def is_weights(value: Any) -> bool:
    """Whether a value is a dict of tensors by name, perhaps with a few other entries."""
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        return False
    return 2 * sum(isinstance(item, (TensorRef, ArrayRef, torch.Tensor, np.ndarray)) for item in value.values()) \
        > len(value)


def states_in(value: Any) -> list[dict]:
    """Optimizer states in a value: one, a list, or a dict of them."""
    parts = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and 'param_groups' not in value:
        parts = list(value.values())
    return [_numbered(part) for part in parts if _is_optimizer(part)]


def names_in(value: Any) -> list[str]:
    """Names of several optimizers in a value that has them as a dict."""
    if not isinstance(value, dict) or 'param_groups' in value:
        return []
    return [str(name) for name, part in value.items() if _is_optimizer(part)]


def _is_optimizer(value: Any) -> bool:
    groups = value.get('param_groups') if isinstance(value, dict) and isinstance(value.get('state'), dict) else None
    return isinstance(groups, list) and bool(groups) and all(
        isinstance(group, dict) and isinstance(group.get('params'), list)
        and all(type(key) in (int, str) for key in group['params']) for group in groups)


def _numbered(state: dict) -> dict:
    """Parameters by their number instead of their name, which torch's distributed checkpoints keep."""
    names = [key for group in state['param_groups'] for key in group['params']]
    if not any(isinstance(name, str) for name in names):
        return state
    numbers = {name: i for i, name in enumerate(names)}
    groups = [{**group, 'params': [numbers[name] for name in group['params']]} for group in state['param_groups']]
    entries = {numbers[name]: entry for name, entry in state['state'].items() if name in numbers}
    return {**state, 'param_groups': groups, 'state': entries}


def listed(value: Any) -> list[Any]:
    """States of schedulers in a value: one, a list, or a dict of lists."""
    if isinstance(value, Mapping) and value and all(isinstance(part, list) for part in value.values()):
        return [item for part in value.values() for item in part]
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, dict) and part]


def count(value: Any) -> int | None:
    """Return a number that counts something, or None."""
    found = number(value)
    return int(found) if found is not None and found == found and 0 <= found < 1e15 and found == int(found) else None


def entry_at(tree: Any, *path: str) -> Any:
    """Return what lies at a path of keys, or None."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
