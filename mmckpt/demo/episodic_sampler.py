"""Indices in episodes: some samples of a category to learn from, others to be asked about."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmckpt.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EpisodeSampler(Sampler):
    """Cuts the samples of each category into episodes of ``shots`` support and ``queries`` query samples.

    Every ``shots + queries`` indices in a row are one episode, the support
    first, so a batch size of that many is one episode a batch. In a pass each
    sample serves at most once, as support or as query; what is left of a
    category is left out, another part in each pass if ``shuffle``.

    The order is a function of seed and pass. For a resume inside an epoch give
    it to ``ResumableSampler`` as its ``sampler``.

    Args:
        dataset (BaseDataset): A data set with ``get_cat_ids``.
        shots (int): Support samples of an episode. Defaults to 1.
        queries (int): Query samples of an episode. Defaults to 7.
        shuffle (bool): Whether to draw episodes at random instead of in the
            order of the data. Defaults to True.
        seed (int, optional): Seed of the draws, equal on all ranks; drawn and
            shared if None. Defaults to None.

    Raises:
        ValueError: If no category has enough samples for one episode.

    Example:
        >>> class Letters:
        ...     text = 'abababbb'
        ...     def __len__(self): return 8
        ...     def get_cat_ids(self, i): return [self.text[i]]
        >>> list(EpisodeSampler(Letters(), shots=1, queries=1, shuffle=False))
        [0, 2, 1, 3, 5, 6]

    Source:
        Training by episodes: Vinyals et al., "Matching Networks for One Shot
        Learning", NeurIPS 2016.
    """

    def __init__(self, dataset: Any, shots: int = 1, queries: int = 7, shuffle: bool = True,
                 seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = shots + queries
        self.shuffle = shuffle
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.epoch = 0
        members: dict[Any, list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            members[dataset.get_cat_ids(index)[0]].append(index)
        self._categories = list(members.values())
        self._total = sum(len(category) // self.size for category in self._categories)
        if self._total == 0:
            raise ValueError(f'expected a category with {shots} + {queries} samples for an episode, found at most '
                             f'{max(map(len, self._categories), default=0)}: lower shots or queries')

    def __len__(self) -> int:
        """Indices of this rank in a pass."""
        return math.ceil(self._total / self.world_size) * self.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        episodes = [episode for category in self._categories
                    for episode in self._cut(self._shuffled(category, generator))]
        episodes = self._shuffled(episodes, generator)
        # As other samplers do, the first are repeated where ranks would get unequal numbers.
        mine = [episodes[i % len(episodes)]
                for i in range(self.rank, len(self) // self.size * self.world_size, self.world_size)]
        return chain.from_iterable(mine)

    def _shuffled(self, items: list, generator: torch.Generator) -> list:
        if not self.shuffle:
            return items
        return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]

    def _cut(self, indices: list[int]) -> Iterator[list[int]]:
        for start in range(0, len(indices) - self.size + 1, self.size):
            yield indices[start:start + self.size]
