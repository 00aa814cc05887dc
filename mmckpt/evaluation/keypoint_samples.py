"""What the metrics read from a data sample, laid out as in OpenMMLab projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def as_array(value: Any) -> np.ndarray:
    """Return a tensor (of any device), array or list as a numpy array.

    Example:
        >>> as_array(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def sample_key(sample: dict) -> tuple | None:
    """Return what tells a sample from all others, or None if it carries no ids.

    Example:
        >>> sample_key(dict(img_id=3, id=41)), sample_key(dict(img_id=3)), sample_key({})
        ((3, 41), None, None)
    """
    if sample.get('img_id') is None or sample.get('id') is None:
        return None
    return (sample['img_id'], sample['id'])


def drop_repeats(results: Sequence[dict]) -> list[dict]:
    """Keep the first result of every sample; samples without a key are all kept.

    Samplers repeat samples to give every rank the same number. MMEngine cuts
    the surplus off at the end, which is right for its own sampler only.

    Example:
        >>> drop_repeats([{'key': (1, 1)}, {'key': (2, 2)}, {'key': (1, 1)}])
        [{'key': (1, 1)}, {'key': (2, 2)}]
    """
    seen: set = set()
    kept = []
    for result in results:
        if result['key'] is None or result['key'] not in seen:
            seen.add(result['key'])
            kept.append(result)
    return kept
