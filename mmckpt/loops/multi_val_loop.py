"""A validation over several data loaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from string import Formatter
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import ValLoop
from mmengine.runner.loops import _parse_losses
from torch.utils.data import DataLoader

from mmckpt.registry import LOOPS


class LoaderChain:
    """Several loaders that hooks see as one: its length and its batches are those of all, one after the other.

    Args:
        loaders (Sequence[DataLoader]): At least one.

    Example:
        >>> chain = LoaderChain([DataLoader([1, 2, 3], batch_size=2), DataLoader([4])])
        >>> len(chain), [batch.tolist() for batch in chain]
        (3, [[1, 2], [3], [4]])
    """

    def __init__(self, loaders: Sequence[DataLoader]) -> None:
        self.loaders = list(loaders)

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def __iter__(self) -> Iterator[Any]:
        for loader in self.loaders:
            yield from loader

    def __getattr__(self, name: str) -> Any:
        # Hooks ask for the data set, its metainfo or the batch size; loaders of one validation share them mostly.
        if name == 'loaders':
            raise AttributeError(name)
        return getattr(self.loaders[0], name)


@LOOPS.register_module()
class MultiValLoop(ValLoop):
    """MMEngine's validation loop over several loaders; metrics carry the name or the index of theirs.

    All loaders are evaluated by the same metrics, each by itself, in one
    validation: hooks, ``save_best`` and early stopping get all values at once.
    ``mmckpt.ValLossHook`` gives the mean loss over the samples of all, and of
    each loader.

    Args:
        runner (Runner): The runner.
        dataloader (Sequence[DataLoader or dict]): The loaders or their configs
            (``val_dataloader=[dict(...), dict(...)]``).
        evaluator (Evaluator or dict or list): As in MMEngine.
        names (Sequence[str], optional): One a loader. Defaults to None: their
            indices, from 0 on.
        metric_name (str): What a metric is called; ``{metric}``, ``{name}`` and
            ``{index}`` are filled in. Defaults to ``'{name}/{metric}'``.
        fp16 (bool): As in MMEngine. Defaults to False.

    Raises:
        TypeError: If ``dataloader`` is a single loader.
        ValueError: If there is no loader, not one name for each, or two metrics
            would get the same name.

    Example:
        >>> val_cfg = dict(type='mmckpt.MultiValLoop', names=['indoor', 'outdoor'])
    """

    def __init__(self, runner: Any, dataloader: Sequence[DataLoader | dict], evaluator: Evaluator | dict | list,
                 names: Sequence[str] | None = None, metric_name: str = '{name}/{metric}', fp16: bool = False) -> None:
        if not isinstance(dataloader, (list, tuple)):
            raise TypeError(
                f'MultiValLoop expects a list of loaders, but val_dataloader is a {type(dataloader).__name__}: write '
                'val_dataloader=[dict(...), dict(...)], or leave out the type of val_cfg for a single one.')
        self.names = _checked_names(names, len(dataloader))
        self.metric_name = _checked_template(metric_name)
        # Which loader is being evaluated.
        self.current = 0
        super().__init__(runner, LoaderChain([_built(runner, loader) for loader in dataloader]), evaluator, fp16)

    def run(self) -> dict[str, float]:
        """Launch validation; return the metrics of all loaders."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        self.val_loss.clear()
        metrics: dict[str, float] = {}
        batches = count()
        for index, loader in enumerate(self.dataloader.loaders):
            self.current = index
            self.evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
            for batch in loader:
                self.run_iter(next(batches), batch)
            # Metrics forget their samples when they are evaluated, so one evaluator serves all loaders in turn.
            for metric, value in self.evaluator.evaluate(len(loader.dataset)).items():
                metrics[self.name_of(metric, index)] = value
        if self.val_loss:
            metrics.update(_parse_losses(self.val_loss, 'val'))
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def name_of(self, metric: str, index: int) -> str:
        """Return what a metric of a loader is called.

        Args:
            metric (str): Its own name.
            index (int): The loader's place in the list.
        """
        return self.metric_name.format(metric=metric, name=self.names[index], index=index)


def _built(runner: Any, loader: DataLoader | dict) -> DataLoader:
    if not isinstance(loader, dict):
        return loader
    return runner.build_dataloader(
        loader, seed=runner.seed, diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))


def _checked_names(names: Sequence[str] | None, loaders: int) -> list[str]:
    given = [str(index) for index in range(loaders)] if names is None else list(names)
    if loaders == 0 or len(given) != loaders or len(set(given)) != loaders:
        raise ValueError(f'MultiValLoop expects at least one loader and a name of its own for each, but got {loaders} '
                         f'loaders and names={names}.')
    return given


def _checked_template(template: str) -> str:
    fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    if not ('metric' in fields and fields & {'name', 'index'} and fields <= {'metric', 'name', 'index'}):
        raise ValueError(f"metric_name must hold {{metric}} and {{name}} or {{index}}, as in '{{name}}/{{metric}}', "
                         f'but got {template!r}: metrics of different loaders would be the same.')
    return template
