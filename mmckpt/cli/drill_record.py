"""Notes the whole training state at each iteration of a drill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmckpt.cli.probe import EnoughIterations
from mmckpt.data.resumable_batches import is_indexed
from mmckpt.data.sequential_entry import is_stateful
from mmckpt.hooks.capture import hook_states, scheduler_states
from mmckpt.hooks.facts import optim_wrappers
from mmckpt.hooks.runner_adapter import host_scalars, unwrapped_model
from mmckpt.loops import IterBasedTrainLoop as ExactIters
from mmckpt.state.digest import CLOCK_KEYS, digest, leaf_texts
from mmckpt.state.rng import capture_rng_state

# Entries of the hub that name this run, or were put there by the event before.
_THIS_RUN = ('cfg', 'experiment_name', 'last_ckpt', 'best_ckpt', 'eta', 'keep_ckpt_ids')
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class RecordingHook(Hook):
    """Notes losses, data and every part of the state, and ends the training where it is told to.

    The state is taken when an iteration is about to begin: its batch has been
    read and every other hook has had its say. ``trace`` maps the number of
    completed iterations to what was seen, in plain types.

    Args:
        cut (int): Completed iterations at which the restart lies.
        end (int): Completed iterations at which training ends: there if it is
            behind the cut, else when the iteration behind it is about to begin.
        sample_ids (SampleIds, optional): What the loader reads.
    """

    priority = 'LOWEST'

    def __init__(self, cut: int, end: int, sample_ids: SampleIds | None) -> None:
        self.cut, self.end = cut, end
        self.sample_ids = sample_ids
        self.trace: dict[int, dict[str, Any]] = {}
        self.attributes: dict[str, str] = {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the state, and stop if this process has done its part."""
        seen = self.trace[runner.iter] = {'state': state_texts(runner), 'batch': digest(data_batch)}
        if self.sample_ids is not None:
            seen['samples'] = self.sample_ids.next(runner)
        if runner.iter == self.cut:
            self.attributes = attribute_texts(runner)
        if runner.iter == self.end:
            raise EnoughIterations

    def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the losses; at the very end also the state."""
        self.trace[runner.iter]['losses'] = leaf_texts(host_scalars(outputs))
        if runner.iter + 1 == self.end > self.cut:
            self.trace[runner.iter + 1] = {'state': state_texts(runner)}
            raise EnoughIterations


class SampleIds:
    """Notes the indices of the batches that a loader reads, in the order in which it gives them.

    Args:
        loader (DataLoader): A map-style loader; changed in place.
    """

    def __init__(self, loader: Any) -> None:
        self._passes: list[list[Any]] = []
        self._given, self._passes_seen = 0, 0
        passes = self._passes

        class Watched(type(loader)):
            @property
            def _index_sampler(self) -> Any:
                return _Tap(super()._index_sampler, passes)

        # The instance stays itself: loops and hooks hold it, and ask for its attributes.
        loader.__class__ = Watched

    @classmethod
    def of(cls, loader: Any) -> SampleIds | None:
        """Watch a loader; None if its data have no index, or it keeps a place of its own."""
        return cls(loader) if is_indexed(loader) and not is_stateful(loader) else None

    def next(self, runner: Any) -> str:
        """Return the indices of the batch that was given last; to be called once a batch."""
        if self._passes_seen != len(self._passes):
            self._passes_seen, self._given = len(self._passes), 0
            loop = runner.train_loop
            if isinstance(loop, IterBasedTrainLoop) and not isinstance(loop, ExactIters):
                # It has read again what came before.
                self._given = runner.iter % len(runner.train_dataloader)
        self._given += 1
        return str(self._passes[-1][self._given - 1])


class _Tap:
    def __init__(self, batches: Any, passes: list[list[Any]]) -> None:
        self._batches, self._passes = batches, passes

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        indices: list[Any] = []
        self._passes.append(indices)
        for batch in self._batches:
            indices.append([int(i) for i in batch] if isinstance(batch, (list, tuple)) else int(batch))
            yield batch


def state_texts(runner: Any) -> dict[str, dict[str, str]]:
    """Return every part of the training state as texts that can be compared between processes.

    Args:
        runner (Runner): A runner in training.

    Returns:
        dict: Texts of leaves by path, by part.
    """
    model, wrappers = unwrapped_model(runner), optim_wrappers(runner.optim_wrapper)
    hub = runner.message_hub
    emas = {type(hook).__name__: hook.ema_model.state_dict() for hook in runner.hooks
            if hasattr(hook, 'ema_model')}
    parts: dict[str, Any] = {
        'weights': dict(model.named_parameters()),
        'buffers': dict(model.named_buffers()),
        'gradients': {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        'optimizer': {name or 'optimizer': wrapper.state_dict() for name, wrapper in wrappers.items()},
        'schedulers': scheduler_states(runner) or {},
        'EMA': emas,
        **{f'{name} stream': state for name, state in capture_rng_state().items()},
        'hooks': hook_states(runner),
        'counters': {'epoch': runner.epoch, 'iter': runner.iter,
                     **{f'{n}accumulated': getattr(w, '_inner_count', None) for n, w in wrappers.items()}},
        'message hub': {
            **{k: v.data for k, v in hub.log_scalars.items() if not k.endswith(CLOCK_KEYS)},
            **{k: v for k, v in hub.runtime_info.items() if not k.startswith(_THIS_RUN)}},
    }
    return {part: {} if isinstance(value, dict) and not value else leaf_texts(value)
            for part, value in parts.items()}


def attribute_texts(runner: Any) -> dict[str, str]:
    """Return what user's hooks, the model's modules and the data set remember outside of any checkpoint."""
    found: dict[str, str] = {}
    for hook in runner.hooks:
        if type(hook).__module__.partition('.')[0] not in ('mmengine', 'mmckpt'):
            found.update(leaf_texts(dict(vars(hook)), type(hook).__name__))
    for name, module in unwrapped_model(runner).named_modules():
        own = {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE}
        found.update(leaf_texts(own, f'model.{name}' if name else 'model'))
    loader = runner.train_dataloader
    for name in ('dataset', 'sampler', 'collate_fn'):
        found.update(leaf_texts(getattr(loader, name, None), name))
    return found
