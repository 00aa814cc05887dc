"""Which of two values of a metric is better, told from its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

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
        close = difflib.get_close_matches(metric.rpartition('/')[2], sorted({*greater, *less}), n=2)
        hint = f"Did you mean {' or '.join(map(repr, close))}? If not, set" if close else 'Set'
        raise ValueError(
            f"Cannot infer the rule for {metric!r}: its name does not tell whether more or less is better. "
            f"{hint} rule='greater' or rule='less' next to it, as in dict(monitor={metric!r}, rule='greater') "
            f"or dict(save_best={metric!r}, rule='greater').")
    return found


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
