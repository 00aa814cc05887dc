"""Random states that hand-written checkpoints keep, in the form in which mmckpt keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mmckpt.files.values import ValueReader
from mmckpt.state.rng import rng_state_of

_NAMES = {
    'torch': ('rng_state', 'torch_rng_state', 'torch', 'torch_rng', 'cpu_rng_state'),
    'numpy': ('numpy_rng_state', 'np_rng_state', 'numpy', 'np_random_state'),
    'python': ('python_rng_state', 'random_rng_state', 'random_state', 'python', 'py_rng_state'),
    'cuda': ('cuda_rng_state', 'cuda_rng_states', 'cuda', 'torch_cuda_rng_state')}
_FOLDERS = ('rng_states', 'random_states', 'rng', 'rng_state')


def random_streams(tree: Any, reader: ValueReader) -> dict[str, Any] | None:
    """Find the states of ``torch``, ``numpy`` and ``random`` in a checkpoint.

    Args:
        tree (Any): The checkpoint; the states lie at its top or in a dict of their own.
        reader (ValueReader): Reads their values.

    Returns:
        dict or None: For :func:`mmckpt.state.rng.restore_rng_state`, or None
        if one of the three is not there or has another form.
    """
    places = [tree, *(tree[key] for key in _FOLDERS if isinstance(tree.get(key), dict))] if isinstance(
        tree, dict) else []
    for place in places:
        found = {kind: next((reader.tree(place[name]) for name in names if name in place), None)
                 for kind, names in _NAMES.items()}
        if isinstance(found['torch'], torch.Tensor) and _is_numpy(found['numpy']) and _is_python(found['python']):
            cuda = found['cuda'] if isinstance(found['cuda'], list) else [found['cuda']]
            return rng_state_of(found['python'], found['numpy'], found['torch'],
                                [state for state in cuda if isinstance(state, torch.Tensor)])
    return None


def _is_numpy(state: Any) -> bool:
    return isinstance(state, tuple) and len(state) == 5 and state[0] == 'MT19937' and isinstance(state[1], np.ndarray)


def _is_python(state: Any) -> bool:
    return isinstance(state, tuple) and len(state) == 3 and isinstance(state[1], tuple) and len(state[1]) == 625
