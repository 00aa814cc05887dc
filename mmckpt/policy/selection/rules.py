"""Comparison rules, their inference, and what counts as a score."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Rule = Literal['greater', 'less']

# MMEngine's own keys; they match anywhere in a name ('mAP' in 'bbox_mAP_50').
GREATER_SUBSTRINGS = ('acc', 'top', 'AR@', 'auc', 'precision', 'mAP', 'mDice', 'mIoU', 'mAcc', 'aAcc')
LESS_SUBSTRINGS = ('loss',)

# Short names would match by accident ('AP' in 'mape', 'AR' in 'arch'): they match whole words only.
# Recall is left out, as in MMEngine.
GREATER_WORDS = (
    'AP', 'AR', 'PCK', 'PCKh', 'PCP', 'PDJ', 'OKS', 'AUC', 'AUROC', 'IoU', 'mIoU', 'Dice', 'F1', 'fscore',
    'mFscore', 'hmean', 'PQ', 'NDS', 'MOTA', 'HOTA', 'IDF1', 'delta1', 'delta2', 'delta3', 'PSNR', 'SSIM',
    'NDCG', 'MRR', 'BLEU', 'CIDEr', 'kappa')
LESS_WORDS = (
    'loss', 'error', 'err', 'NME', 'EPE', 'MPJPE', 'MPVPE', 'PVE', 'abs_rel', 'absrel', 'sq_rel', 'sqrel',
    'rmse', 'mae', 'mse', 'mape', 'silog', 'log10', 'SAD', 'FID', 'KID', 'LPIPS', 'NIQE', 'perplexity', 'ppl',
    'nll', 'WER', 'CER', 'EER', 'ECE')
# The loss of a heat map is a loss, and the error of an accuracy an error.
DOMINANT_WORDS = ('loss', 'error', 'err')

DEFAULT_GREATER = (*GREATER_SUBSTRINGS, *GREATER_WORDS)
DEFAULT_LESS = (*LESS_SUBSTRINGS, *LESS_WORDS)


def infer_rule(metric: str, rule: str | None = None, greater_keys: Iterable[str] = DEFAULT_GREATER,
               less_keys: Iterable[str] = DEFAULT_LESS) -> Rule:
    """Return whether a greater or a smaller value of a metric is better.

    A rule that is given wins. Otherwise the name decides, whatever its case,
    in this order; in each step ``greater_keys`` come before ``less_keys``:

    1. the name is one of the keys;
    2. a key of the caller's own occurs anywhere in it;
    3. a default key is one of its words (``abs_rel`` in ``depth-abs_rel0``,
       ``AP`` in ``coco/AP50``, not in ``mape``), where ``loss`` and ``error``
       decide before all others;
    4. one of MMEngine's keys occurs anywhere in it.

    Without own keys this gives MMEngine's answer for every name for which
    MMEngine has one, except where step 3 knows better: MMEngine takes
    ``heatmap_loss`` (``map``), ``top1_error`` and ``mape`` for metrics of
    which more is better.

    Args:
        metric (str): Name of the metric, such as ``'coco/AP'``.
        rule (str, optional): ``'greater'`` or ``'less'``. Defaults to None,
            infer it.
        greater_keys (Iterable[str]): Names of which more is better; they
            replace the default ones.
        less_keys (Iterable[str]): Names of which less is better.

    Returns:
        str: ``'greater'`` or ``'less'``.

    Raises:
        ValueError: If ``rule`` is another word, or the name tells nothing.

    Example:
        >>> infer_rule('coco/AP'), infer_rule('val/loss_heatmap'), infer_rule('depth-abs_rel0')
        ('greater', 'less', 'less')
    """
    if rule == 'greater' or rule == 'less':
        return rule  # type: ignore[return-value]
    if rule is not None:
        raise ValueError(f"rule must be 'greater', 'less' or None (infer it), but got {rule!r} for the "
                         f'metric {metric!r}.')
    greater, less = list(greater_keys), list(less_keys)
    found = (_equal(metric, greater, less) or _contained(metric, _own(greater), _own(less))
             or _worded(metric, greater, less) or _contained(metric, _raw(greater), _raw(less)))
    if found is None:
        raise ValueError(
            f"Cannot infer the rule for {metric!r}: its name does not tell whether more or less is better. "
            f"Set rule='greater' or rule='less' next to it, as in dict(monitor={metric!r}, rule='greater') "
            f"or dict(save_best={metric!r}, rule='greater').")
    return found


def is_better(score: float | None, best: float | None, rule: Rule, min_delta: float = 0.0) -> bool:
    """Return whether ``score`` beats ``best``; a tie does not, and NaN and None never do.

    Args:
        score (float, optional): The new score; None means that there is none.
        best (float, optional): The best so far; None or NaN is beaten by any
            number.
        rule (str): ``'greater'`` or ``'less'``.
        min_delta (float): By how much ``best`` must be exceeded, at least 0.
            Defaults to 0.0.

    Example:
        >>> is_better(0.0, None, 'greater'), is_better(1.0, 1.0, 'less')
        (True, False)
        >>> is_better(float('nan'), None, 'less')
        False
    """
    if score is None or math.isnan(score):
        return False
    if best is None or math.isnan(best):
        return True
    return score > best + min_delta if rule == 'greater' else score < best - min_delta


def as_score(value: Any) -> float | None:
    """Return a metric's value as a float; None stays None, and 0.0 is a value.

    Args:
        value (Any): A number, or anything with ``.item()`` that holds a single
            number: NumPy scalars, tensors of one element on any device.

    Raises:
        ValueError: If it is not one number.

    Example:
        >>> as_score(3), as_score(0.0), as_score(None)
        (3.0, 0.0, None)
    """
    if value is None:
        return None
    try:
        number = value.item() if hasattr(value, 'item') else value
        if isinstance(number, str):
            raise TypeError('text')
        return float(number)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'Expected a metric that is one number, but got {type(value).__name__}: '
                         f'{value!r:.100}. Let the metric return a float.') from error


def scalar_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Keep the metrics that are one number, as floats.

    Example:
        >>> scalar_metrics({'AP': 0.5, 'per_class': [1, 2], 'PCK': None})
        {'AP': 0.5}
    """
    scores = {}
    for name, value in (metrics or {}).items():
        try:
            score = as_score(value)
        except ValueError:
            continue
        if score is not None:
            scores[name] = score
    return scores


def _equal(metric: str, greater: Sequence[str], less: Sequence[str]) -> Rule | None:
    if metric.lower() in {key.lower() for key in greater}:
        return 'greater'
    return 'less' if metric.lower() in {key.lower() for key in less} else None


def _contained(metric: str, greater: Sequence[str], less: Sequence[str]) -> Rule | None:
    name = metric.lower()
    if any(key.lower() in name for key in greater):
        return 'greater'
    return 'less' if any(key.lower() in name for key in less) else None


def _worded(metric: str, greater: Sequence[str], less: Sequence[str]) -> Rule | None:
    spelled = _spellings(metric)

    def has(keys: Iterable[str], among: Sequence[str]) -> bool:
        return any(word in text
                   for key in keys if key in among for word in _spellings(key) for text in spelled)

    if has(DOMINANT_WORDS, less):
        return 'less'
    if has(GREATER_WORDS, greater):
        return 'greater'
    return 'less' if has(LESS_WORDS, less) else None


def _spellings(name: str) -> set[str]:
    """The words of a name between spaces, once cut at changes of case as well and once not.

    >>> sorted(_spellings('val/AbsRel1'))
    [' val abs rel 1 ', ' val absrel 1 ']
    """
    cuts = (r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+', r'[A-Za-z]+|\d+')
    return {f" {' '.join(re.findall(cut, name))} ".lower() for cut in cuts}


def _own(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if key not in DEFAULT_GREATER and key not in DEFAULT_LESS]


def _raw(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if key in GREATER_SUBSTRINGS or key in LESS_SUBSTRINGS]
