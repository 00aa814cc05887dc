"""The mean of the weights of several checkpoints: a model soup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import torch

from mmckpt.errors import IncompatibleCheckpointError

StateDict = Mapping[str, Any]


def average_weights(members: Sequence[StateDict], names: Sequence[str]) -> dict[str, Any]:
    """Return the mean of each weight over some models.

    Sums are taken in double precision. What is not a floating tensor
    (counters such as ``num_batches_tracked``) is that of the first member.

    Args:
        members (Sequence[Mapping]): State dicts of one architecture.
        names (Sequence[str]): What an error calls each of them.

    Returns:
        dict: New tensors of the types of the first member's.

    Raises:
        IncompatibleCheckpointError: If names or shapes differ.

    Example:
        >>> mean = average_weights([{'w': torch.tensor([0., 2.])}, {'w': torch.tensor([4., 2.])}], ['a', 'b'])
        >>> mean['w'].tolist()
        [2.0, 2.0]
    """
    first = members[0]
    for member, name in zip(members[1:], names[1:]):
        _check_alike(first, member, names[0], name)
    averaged: dict[str, Any] = {}
    for key, value in first.items():
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            averaged[key] = value.clone() if isinstance(value, torch.Tensor) else value
            continue
        wide = torch.complex128 if value.is_complex() else torch.float64
        total = torch.zeros_like(value, dtype=wide)
        for member in members:
            total += member[key].to(wide)
        averaged[key] = (total / len(members)).to(value.dtype)
    return averaged


def greedy_soup(members: Sequence[StateDict], names: Sequence[str], score: Callable[[StateDict], float],
                is_better: Callable[[float, float], bool]) -> tuple[list[int], list[float]]:
    """Choose the members whose mean is best: each is added only if the mean does not get worse.

    Args:
        members (Sequence[Mapping]): State dicts, best model first.
        names (Sequence[str]): What an error calls each of them.
        score (callable): Gives the score of a state dict, on data that is not trained on.
        is_better (callable): Whether its first score is better than its second.

    Returns:
        tuple: Positions of the members that were taken, and the score with each member tried.

    Source: Wortsman et al., "Model soups", ICML 2022, recipe 1.

    Example:
        >>> members = [{'w': torch.tensor([value])} for value in (1.0, 3.0, 8.0)]
        >>> taken, scores = greedy_soup(members, 'abc', lambda s: -abs(s['w'].item() - 2), lambda a, b: a > b)
        >>> taken, scores
        ([0, 1], [-1.0, -0.0, -2.0])
    """
    taken, scores, best = [0], [score(members[0])], 0.0
    best = scores[0]
    for position in range(1, len(members)):
        trial = [*taken, position]
        scores.append(score(average_weights([members[i] for i in trial], [names[i] for i in trial])))
        if not is_better(best, scores[-1]):
            taken, best = trial, scores[-1]
    return taken, scores


def _check_alike(first: StateDict, other: StateDict, first_name: str, other_name: str) -> None:
    absent = sorted(set(first) ^ set(other))
    reshaped = [key for key in first if key in other
                and getattr(first[key], 'shape', None) != getattr(other[key], 'shape', None)]
    if absent or reshaped:
        key = (absent or reshaped)[0]
        found = ('is in one of them only' if absent else
                 f'has the shapes {tuple(first[key].shape)} and {tuple(other[key].shape)}')
        raise IncompatibleCheckpointError(
            f'{first_name} and {other_name} cannot be averaged, they are not of one architecture: {key!r} {found}. '
            'Average checkpoints of one config only.')
