"""State that differs from rank to rank: buffers, gradients inside an accumulation window, place in the data."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.optim import OptimWrapper

from mmckpt.hooks.runner_adapter import gather_objects, unwrapped_model


class RankState:
    """Collects what only its own rank knows, before rank 0 writes.

    Without ``SyncBatchNorm`` every rank has running statistics of its own,
    but MMEngine's checkpoint holds those of one rank only. Inside a window of
    gradient accumulation the gradients so far are state as well; they are
    kept as they are, scaled if AMP scales them (the scale is in the
    optimizer's state). Where data have no index, the train loop knows this
    rank's place in them.
    """

    def __init__(self) -> None:
        self._ranks: list[dict[str, Any]] = []

    def gather(self, runner: Any) -> None:
        """Collect from all ranks; must be called on every rank."""
        buffers = _buffers(runner) if get_world_size() > 1 else {}
        own = {'buffers': {k: v.cpu() for k, v in buffers.items()}, 'gradients': _window_gradients(runner),
               'data': _data_state(runner)}
        self._ranks = gather_objects(own)
        first = self._ranks[0]['buffers']
        # Of all ranks: where a strategy writes, nobody knows whose are in its files.
        differ = {k for state in self._ranks[1:] for k, v in state['buffers'].items() if not torch.equal(v, first[k])}
        for state in self._ranks:
            state['buffers'] = {k: v for k, v in state['buffers'].items() if k in differ}

    def state(self) -> list[dict[str, Any]]:
        """What was gathered, one entry a rank, or nothing if no rank has anything of its own."""
        ranks, self._ranks = self._ranks, []
        return ranks if any(part for state in ranks for part in state.values()) else []


def restore_rank_state(runner: Any, ranks: list[dict[str, Any]]) -> str | None:
    """Put this rank's buffers, gradients and place in the data back.

    Args:
        runner (Runner): A runner that has loaded rank 0's model.
        ranks (list[dict]): What :meth:`RankState.state` returned.

    Returns:
        str: Why it could not be done, or None.
    """
    if not ranks:
        return None
    if len(ranks) != get_world_size():
        return (f'the file holds buffers, gradients or the place in the data of {len(ranks)} rank(s), and this run '
                f'has {get_world_size()}: every rank starts with the buffers of rank 0, an empty accumulation window '
                'and, where the data have no index, by reading as many batches again')
    own = ranks[get_rank()]
    buffers, parameters = _buffers(runner), dict(unwrapped_model(runner).named_parameters())
    for name, value in own['buffers'].items():
        buffers[name].copy_(value)
    for name, value in own['gradients'].items():
        parameters[name].grad = _as_gradient(value, parameters[name])
    # Older files and stock's loops have none.
    if own.get('data') is not None and hasattr(runner.train_loop, 'load_data_state'):
        runner.train_loop.load_data_state(own['data'])
    return None


def _data_state(runner: Any) -> Any:
    return runner.train_loop.data_state() if hasattr(runner.train_loop, 'data_state') else None


def _buffers(runner: Any) -> dict[str, torch.Tensor]:
    """The buffers that a state dict would hold; asking for one would be a collective where weights are sharded."""
    return {f'{prefix}.{name}' if prefix else name: buffer
            for prefix, module in unwrapped_model(runner).named_modules() for name, buffer in module._buffers.items()
            if buffer is not None and name not in module._non_persistent_buffers_set}


def _window_gradients(runner: Any) -> dict[str, torch.Tensor]:
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        return {}
    parts = list(wrapper.values()) if hasattr(wrapper, 'values') else [wrapper]
    if not any(_inside_window(part) for part in parts):
        return {}
    return {name: _own_part(p.grad.detach()).cpu() for name, p in unwrapped_model(runner).named_parameters()
            if p.grad is not None}


def _own_part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a distributed tensor; any other as it is."""
    return tensor.to_local() if hasattr(tensor, 'to_local') else tensor


def _as_gradient(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    own = value.to(parameter.device, copy=True)
    if not hasattr(parameter, 'to_local'):
        return own
    return type(parameter.data).from_local(
        own, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride())


def _inside_window(wrapper: OptimWrapper) -> bool:
    counts = wrapper._accumulative_counts
    return counts > 1 and wrapper._inner_count % counts != 0 and wrapper._inner_count != wrapper._max_counts
