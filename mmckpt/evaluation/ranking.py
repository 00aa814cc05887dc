"""How well a ranking of items finds those that a user took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmckpt.evaluation.keypoint_samples import as_array, drop_repeats, sample_key
from mmckpt.registry import METRICS


@METRICS.register_module()
class RankingMetric(BaseMetric):
    """``NDCG@k`` and ``Recall@k`` of held-out items, averaged over users.

    The items that the model was shown (fold-in) leave the ranking; the others
    are ranked by score. Gains are 0 or 1. Recall is divided by the smaller of
    ``k`` and the number of held-out items, so that 1 can be reached. Users
    without a held-out item do not count; without any that counts, both are nan.

    ``save_best='Recall@20'`` needs ``rule='greater'``: as in MMEngine, the word
    recall infers no rule.

    Data samples hold ``pred_scores`` ``(I,)``, one score an item,
    ``held_out`` and, if the model was shown items, ``fold_in``: item numbers.

    Source: Liang et al. 2018, "Variational Autoencoders for Collaborative
    Filtering", section 4.2.

    Args:
        ndcg (int or Sequence[int]): Each k of ``NDCG@k``. Defaults to 100.
        recall (int or Sequence[int]): Each k of ``Recall@k``. Defaults to
            (20, 50).
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to 'cpu'.
        prefix (str, optional): ``'test'`` makes ``test/NDCG@100``. Defaults
            to None.

    Raises:
        ValueError: If a ``k`` is below 1, or an item number has no score.

    Example:
        >>> metric = RankingMetric(ndcg=2, recall=2)
        >>> metric.process(None, [dict(pred_scores=[0.9, 0.1, 0.7, 0.3], fold_in=[0], held_out=[2, 1])])
        >>> {name: round(value, 3) for name, value in metric.evaluate(size=1).items()}
        {'NDCG@2': 0.613, 'Recall@2': 0.5}
    """

    # An empty prefix, unlike None, also spares the user a warning of BaseMetric.
    default_prefix = ''

    def __init__(self,
                 ndcg: int | Sequence[int] = 100,
                 recall: int | Sequence[int] = (20, 50),
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ndcg, self.recall = _cut_offs('ndcg', ndcg), _cut_offs('recall', recall)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Rank the items of each user of one batch; called by MMEngine's evaluator."""
        for sample in data_samples:
            scores = as_array(sample['pred_scores']).astype(np.float64)
            held_out = _item_numbers(sample, 'held_out', len(scores))
            if not len(held_out):
                self.results.append(dict(key=sample_key(sample), values=None))
                continue
            scores[_item_numbers(sample, 'fold_in', len(scores))] = -np.inf
            hits = ranked_hits(scores, held_out, max(*self.ndcg, *self.recall, 1))
            self.results.append(dict(key=sample_key(sample), values=[
                *(ndcg_at(hits, len(held_out), k) for k in self.ndcg),
                *(recall_at(hits, len(held_out), k) for k in self.recall)]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the means over the users that have a held-out item."""
        names = [f'NDCG@{k}' for k in self.ndcg] + [f'Recall@{k}' for k in self.recall]
        rows = [r['values'] for r in drop_repeats(results) if r['values'] is not None]
        # fsum: the value must not depend on the order in which ranks deliver users.
        means = [math.fsum(column) / len(rows) for column in zip(*rows)] if rows else [math.nan] * len(names)
        return dict(zip(names, means))


def ranked_hits(scores: np.ndarray, held_out: np.ndarray, most: int) -> np.ndarray:
    """Tell for each of the best items whether it was held out.

    Args:
        scores (np.ndarray): ``(I,)``, one an item; of equal ones the lower item number comes first.
        held_out (np.ndarray): Item numbers.
        most (int): Items to look at.

    Returns:
        np.ndarray: ``(min(most, I),)`` bool, best item first.

    Example:
        >>> ranked_hits(np.array([0.1, 0.9, 0.5]), np.array([2]), 2).tolist()
        [False, True]
    """
    return np.isin(np.argsort(-scores, kind='stable')[:most], held_out)


def ndcg_at(hits: np.ndarray, held_out: int, k: int) -> float:
    """Return the discounted cumulative gain of the first ``k`` over that of the best ranking."""
    discounts = 1 / np.log2(np.arange(2, max(k, held_out) + 2))
    return float(discounts[:len(hits[:k])][hits[:k]].sum() / discounts[:min(k, held_out)].sum())


def recall_at(hits: np.ndarray, held_out: int, k: int) -> float:
    """Return the share of the held-out items, at most ``k``, that are among the first ``k``."""
    return float(hits[:k].sum() / min(k, held_out))


def _cut_offs(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    cut_offs = (given,) if isinstance(given, int) else tuple(given)
    if any(k < 1 for k in cut_offs):
        raise ValueError(f'expected each k of {name} to be at least 1, found {given}')
    return cut_offs


def _item_numbers(sample: dict, name: str, items: int) -> np.ndarray:
    numbers = np.unique(as_array(sample.get(name, ()))).astype(np.int64)
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < items:
        raise ValueError(
            f'expected {name} to hold numbers of items from 0 to {items - 1}, found {numbers[0]} to '
            f"{numbers[-1]}: does the model's num_items fit the data set?")
    return numbers
