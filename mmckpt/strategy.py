"""Training under FSDP2 for MMEngine's FlexibleRunner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable

import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.hooks.facts import optim_wrappers
from mmckpt.registry import STRATEGIES
from mmckpt.state.sharded import load_whole, read_shards, shard_model, write_shards
from mmckpt.store import load_checkpoint

# What is neither weights nor state of the optimizer.
_REST = 'rest.pth'


@STRATEGIES.register_module()
class FSDP2Strategy(DDPStrategy):
    """Shards weights, gradients and optimizer over the ranks by ``fully_shard``; saves without gathering them.

    Each rank writes its own shards, and a checkpoint is read by any number of
    ranks. ``mmckpt.CheckpointHook`` makes one verified unit of what they
    write. Start it with torchrun (``tools/dist_train.sh``). ``EMAHook``
    copies its model, which sharded ones refuse.

    Args:
        units (Sequence[str]): Class names of modules that are gathered each on
            its own, such as a transformer's block. Defaults to (), the whole model at once.
        async_save (bool): Copy the shards and write them in the background; the hook
            needs ``store=dict(async_save=True)`` as well. Defaults to False.
        **kwargs: Of MMEngine's ``DDPStrategy``: ``sync_bn``, ``auto_scale_lr``...

    Example:
        >>> runner_type = 'FlexibleRunner'
        >>> strategy = dict(type='mmckpt.FSDP2Strategy', units=['TransformerEncoderLayer'])
    """

    def __init__(self, *, units: Sequence[str] = (), async_save: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = set(units)
        self.async_save = async_save
        self._pending: Future | None = None

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = self.convert_model(model.to(get_device()))
        names = {type(module).__name__ for module in model.modules()}
        if not self.units <= names:
            raise ValueError(f'FSDP2Strategy(units=...): the model has no {", ".join(sorted(self.units - names))}; '
                             f'it has {", ".join(sorted(names))}.')
        shard_model(model, torch.device(get_device()).type,
                    [module for module in model.modules() if type(module).__name__ in self.units])
        return model

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True, save_param_scheduler: bool = True,
                        extra_ckpt: dict | None = None, callback: Callable | None = None) -> Future | None:
        """Write a directory; call it on every rank.

        Args:
            filename (str): The directory.
            save_optimizer (bool): Whether the optimizer's state goes into it. Defaults to True.
            save_param_scheduler (bool): Whether the schedulers' does. Defaults to True.
            extra_ckpt (dict, optional): Further entries; rank 0's are written. Defaults to None.
            callback (callable, optional): Takes what is written next to the shards. Defaults to None.

        Returns:
            Future: With ``async_save``: of this rank's writing; on rank 0 of all ranks'.
        """
        self.wait_for_save()
        rest = dict(extra_ckpt or {})
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            rest['param_schedulers'] = self.scheduler_state_dict()
        if callback is not None:
            callback(rest)
        rest['optimizer'] = save_optimizer and hasattr(self, 'optim_wrapper')
        self._pending = write_shards(filename, self.model, self._optimizers() if rest['optimizer'] else (),
                                     async_save=self.async_save)
        # What fails on one rank only must not keep it from the exchange in which all write.
        if is_main_process():
            self._write_rest(rest, Path(filename))
        return self._pending

    def _write_rest(self, rest: dict, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            torch.save(rest, directory / _REST)
        except BaseException:
            # Who takes away what is of no use must not do so while it is being written.
            self.wait_for_save()
            raise

    def wait_for_save(self) -> None:
        """Wait until this rank has written what it is writing; what went wrong there is told to the hook."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.exception()

    def load_checkpoint(self, filename: str, *, map_location: Any = 'cpu', strict: bool = False,
                        revise_keys: Sequence[Any] = ((r'^module.', ''),), callback: Callable | None = None) -> dict:
        """Load weights from a directory of shards, or from a file with whole tensors.

        Args:
            filename (str): What this strategy has written, or any checkpoint of MMEngine's form.
            map_location (Any): For a file, as in MMEngine. Defaults to 'cpu'.
            strict (bool): Whether weights without counterpart are refused. Defaults to False.
            revise_keys (Sequence): For a file, as in MMEngine. Defaults to leaving out a ``module.`` in front.
            callback (callable, optional): Takes what was read next to the weights. Defaults to None.

        Returns:
            dict: That; ``optimizer`` stands for what :meth:`load_optim_state_dict` takes.

        Raises:
            IncompatibleCheckpointError: With ``strict``, if weights have no counterpart.
        """
        self.logger.info(f'Load checkpoint from {filename}')
        if not Path(filename).is_dir():
            return self._load_file(filename, map_location, strict, revise_keys, callback)
        rest = load_checkpoint(Path(filename, _REST))
        if callback is not None:
            callback(rest)
        read_shards(filename, self.model)
        with_optimizer = rest.pop('optimizer', False)
        return {**rest, 'optimizer': filename} if with_optimizer else rest

    def load_optim_state_dict(self, state_dict: Any) -> None:
        """Load the optimizer's state.

        Args:
            state_dict (str): The directory of shards.

        Raises:
            IncompatibleCheckpointError: If it is the state of an optimizer that is not sharded.
        """
        if not isinstance(state_dict, str):
            raise IncompatibleCheckpointError(
                'The optimizer state of a file does not fit a sharded optimizer. Resume without the strategy, or pass '
                'the file as load_from without resume to start anew from its weights.')
        read_shards(state_dict, self.model, self._optimizers())

    def _load_file(self, filename: str, map_location: Any, strict: bool, revise_keys: Sequence[Any],
                   callback: Callable | None) -> dict:
        checkpoint = _load_checkpoint(filename, map_location='cpu' if map_location == 'default' else map_location)
        if callback is not None:
            callback(checkpoint)
        weights = checkpoint.pop('state_dict', checkpoint)
        for pattern, replacement in revise_keys:
            weights = {re.sub(pattern, replacement, key): value for key, value in weights.items()}
        left = load_whole(self.model, weights)
        text = f'{len(left)} weights have no counterpart: {", ".join(left[:5])}'
        if left and strict:
            raise IncompatibleCheckpointError(f'{filename}: {text}.')
        if left:
            self.logger.warning(text)
        return checkpoint

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [wrapper.optimizer for wrapper in optim_wrappers(self.optim_wrapper).values()]
