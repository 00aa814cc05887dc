"""A data set wrapper that makes augmentation a function of seed, epoch and position."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset, IterableDataset

from mmckpt.data.position import PositionedIndex, mix
from mmckpt.registry import DATASETS
from mmckpt.state.rng import isolated_streams, seed_streams


@DATASETS.register_module()
class DeterministicDataset(Dataset):
    """Seeds python, numpy and torch before each sample, and leaves no trace of it.

    A sample's augmentation then depends on its place in the run only: not on
    the number of workers, on prefetching, on persistent workers, or on a
    restart. It takes the place from the index that
    :class:`mmckpt.ResumableSampler` yields; a plain index counts as position
    ``index`` of epoch 0.

    Attributes of the wrapped data set (``metainfo``, ``get_data_info``,
    ``full_init``, ...) are read and set through the wrapper, so that hooks
    which change a pipeline during training find it.

    Args:
        dataset (Dataset or dict): The data set, or its config.
        seed (int, optional): Seed of the augmentation; with None the loops of
            mmckpt set it to the seed of the run. Defaults to None.

    Raises:
        ValueError: If the data set cannot be indexed.

    Example:
        >>> import random
        >>> class Noise(Dataset):
        ...     def __getitem__(self, index): return random.random()
        >>> noise = DeterministicDataset(Noise(), seed=1)
        >>> noise[3] == noise[3], noise[3] == noise[4]
        (True, False)
    """

    def __init__(self, dataset: Dataset | dict, seed: int | None = None) -> None:
        built = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if isinstance(built, IterableDataset):
            raise ValueError(
                f'DeterministicDataset expects a data set with an index, but {type(built).__name__} is an '
                "IterableDataset. Use it as it is, with torchdata's StatefulDataLoader "
                "(train_dataloader=dict(type='StatefulDataLoader', ...)) and its generator in its state.")
        self.__dict__.update(dataset=built, seed=seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        with isolated_streams():
            return self._read(index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Read the samples of a batch; the training streams are set aside once instead of per sample."""
        with isolated_streams():
            return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        epoch, position = (index.epoch, index.position) if isinstance(index, PositionedIndex) else (0, int(index))
        seed_streams(mix(self.seed or 0, epoch, position))
        return self.dataset[int(index)]

    def __getattr__(self, name: str) -> Any:
        # Called for absent names only; a copy or unpickling asks before `dataset` exists.
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.dataset, name, value)
