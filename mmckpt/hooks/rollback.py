"""Goes back to a checkpoint inside a running process, with the state that a new process would have."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import IterTimerHook

from mmckpt.hooks.runner_adapter import broadcast_object, unwrapped_model
from mmckpt.store import Record
from mmckpt.store.lock import DirectoryLock
from mmckpt.store.record import newest_first

# What the parameter groups and schedulers of MMEngine remember of a learning rate.
_LR_KEYS = ('lr', 'initial_lr', 'max_lr', 'min_lr')


class RollbackLog:
    """The rollbacks of a run: which iterations they leave out, and what they do to the learning rate."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        # Rollbacks whose factor the present learning rate has in it.
        self._applied = 0

    @property
    def count(self) -> int:
        """Rollbacks so far."""
        return len(self.events)

    def add(self, event: Mapping[str, Any]) -> None:
        """Note a rollback.

        Args:
            event (dict): ``cause``, ``text``, ``from_iter``, ``to_iter``,
                ``checkpoint``, ``skip_iters`` and ``lr_factor``.
        """
        self.events.append(dict(event))

    def learn(self, events: list[dict[str, Any]]) -> bool:
        """Take all rollbacks of the run; return whether there are more than were known."""
        more = len(events) > len(self.events)
        if more:
            self.events = [dict(event) for event in events]
        return more

    def leaves_out(self, start: int, end: int) -> bool:
        """Whether an update of iterations ``start + 1`` to ``end`` is to be left out."""
        return any(start < event['from_iter'] and end > event['from_iter'] - event['skip_iters']
                   for event in self.events)

    def apply_lr(self, wrapper: Any, schedulers: Any) -> None:
        """Multiply the learning rates by the factors that a restored state does not know yet."""
        factor = 1.0
        for event in self.events[self._applied:]:
            factor *= event['lr_factor']
        self._applied = len(self.events)
        if factor != 1.0:
            scale_lr(wrapper, schedulers, factor)

    def state_dict(self) -> dict[str, Any]:
        """Return the rollbacks in plain types."""
        return {'version': 1, 'events': [dict(event) for event in self.events], 'applied': self._applied}

    def load_state_dict(self, state: Mapping[str, Any], going_back: bool = False) -> None:
        """Take a saved state; while going back only what it says of the restored learning rate."""
        self._applied = state['applied']
        if not going_back:
            self.events = [dict(event) for event in state['events']]

    def begin_restore(self) -> None:
        """Expect a state that may know nothing of rollbacks."""
        self._applied = 0


def check_rollback(runner: Any, argument: str) -> None:
    """Refuse a rollback that could not restore everything, before training has cost an hour.

    Raises:
        ValueError: If the train loop or the checkpoint hook is not ours, or does not save the whole state.
    """
    if not hasattr(runner.train_loop, 'rewind'):
        raise ValueError(
            f"TrainingMonitorHook({argument}='rollback') needs a train loop that can go back, but train_cfg builds "
            f"{type(runner.train_loop).__name__} of MMEngine. Use train_cfg=dict(type='mmckpt.EpochBasedTrainLoop', "
            "...) or dict(type='mmckpt.IterBasedTrainLoop', ...).")
    hook = _checkpoint_hook(runner)
    if hook is None or not hook._is_local or not (hook.save_optimizer and hook.save_param_scheduler):
        raise ValueError(
            f"TrainingMonitorHook({argument}='rollback') needs mmckpt.CheckpointHook with save_optimizer=True and "
            "save_param_scheduler=True on a local disk: set default_hooks=dict(checkpoint=dict("
            "type='mmckpt.CheckpointHook', interval=..., ...)).")


def rollbacks_of_run(runner: Any) -> list[dict[str, Any]]:
    """Return the rollbacks of this run that the index knows, oldest first, on all ranks."""
    store = _checkpoint_hook(runner).store
    return broadcast_object(None if store is None else [
        attempt.event for attempt in store.index.attempts
        if attempt.run == store.index.current_run and attempt.event is not None])


def find_target(runner: Any, before: int) -> Record | None:
    """Return the newest sound checkpoint of this run of at most ``before`` completed iterations, on all ranks."""
    found, store = None, _checkpoint_hook(runner).store
    if is_main_process():
        store.wait()
        earlier = [r for r in store.records_of_run() if r.iter <= before and 'exception' not in r.roles]
        for record in newest_first(earlier):
            fault = store.verify(record)
            if fault is None:
                found = record
                break
            runner.logger.warning(f'{record.name} is no checkpoint to go back to: {fault}.')
    return broadcast_object(found)


def roll_back(runner: Any, name: str, event: Mapping[str, Any]) -> None:
    """Put the state of a checkpoint back, everything that a resume in a new process restores.

    Call it on every rank, between two iterations, with the data iterator closed.

    Args:
        runner (Runner): The runner, in training.
        name (str): The checkpoint, in the directory of the checkpoint hook.
        event (dict): What the index is told about it.
    """
    hook = _checkpoint_hook(runner)
    with _kept_directory(hook.out_dir, runner.logger):
        hook.close_for_rollback(name, event)
        _forget(runner)
        # Hooks of MMEngine and ours read these to tell a resume from a load of weights.
        runner._resume, runner._load_from = True, osp.join(hook.out_dir, name)
        hook.prepare_load(runner)
        runner.resume(runner._load_from)
        runner.optim_wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
        runner.call_hook('before_train')


def scale_lr(wrapper: Any, schedulers: Any, factor: float) -> None:
    """Multiply learning rates so that the schedule goes on from the scaled ones.

    Args:
        wrapper (OptimWrapper): Holds the parameter groups.
        schedulers (list or dict, optional): MMEngine's schedulers, as the Runner has them.
        factor (float): The factor.
    """
    for group in wrapper.param_groups:
        for key in _LR_KEYS:
            if group.get(key) is not None:
                group[key] = group[key] * factor
    parts = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    for scheduler in (s for part in parts for s in part):
        if getattr(scheduler, 'param_name', None) == 'lr':
            for key in ('base_values', '_last_value'):
                if getattr(scheduler, key, None):
                    setattr(scheduler, key, [value * factor for value in getattr(scheduler, key)])


def _forget(runner: Any) -> None:
    """Leave nothing in place that a new process would not have."""
    for parameter in unwrapped_model(runner).parameters():
        parameter.grad = None
    hub = runner.message_hub
    hub.log_scalars.clear()
    for key in [key for key, kept in hub._resumed_keys.items() if kept]:
        hub.runtime_info.pop(key, None)
    hub._resumed_keys.clear()
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):
            hook.time_sec_tot = 0


@contextmanager
def _kept_directory(directory: str, logger: Any) -> Iterator[None]:
    """Let no other training into the directory while its store is closed and opened again."""
    if not is_main_process():
        yield
        return
    lock = DirectoryLock(Path(directory), logger)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _checkpoint_hook(runner: Any) -> Any:
    return next((hook for hook in runner.hooks if hasattr(hook, 'close_for_rollback')), None)
