"""The one place that reads Runner fields, corrects its counters and talks to other ranks."""

from __future__ import annotations

import bisect
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, IterBasedTrainLoop

from mmckpt.errors import StoppedByMonitor
from mmckpt.progress import Progress

ExitCallback = Callable[[str, Optional[BaseException]], None]


def show_every_warning(logger: logging.Logger) -> None:
    """Let warnings be shown that differ in their arguments only.

    The handlers of an ``MMLogger`` leave out a warning that was there before, and look at its text before the
    arguments are in it: of several damaged files, only the first would be named.
    """
    if _with_arguments not in logger.filters:
        logger.addFilter(_with_arguments)


def _with_arguments(record: logging.LogRecord) -> bool:
    record.msg, record.args = record.getMessage(), ()
    return True


def is_training(runner: Any) -> bool:
    """Whether this run trains: ``before_run`` also fires for ``val()`` and ``test()``."""
    return isinstance(runner._train_loop, BaseLoop)


def unwrapped_model(runner: Any) -> Any:
    """The model without its (DDP, ...) wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def progress_after_epoch(runner: Any) -> Progress:
    """Completed counts inside ``after_train_epoch``, which runs before ``epoch += 1``."""
    return Progress(epoch=runner.epoch + 1, iter=runner.iter)


def progress_after_iter(runner: Any) -> Progress:
    """Completed counts inside ``after_train_iter``, which runs before ``iter += 1``."""
    return Progress(epoch=runner.epoch, iter=runner.iter + 1)


def progress_between(runner: Any) -> Progress:
    """Completed counts in validation events, where the Runner's own are right."""
    return Progress(epoch=runner.epoch, iter=runner.iter)


def gather_objects(value: Any) -> list[Any]:
    """Collect a picklable value from every rank, in rank order; call it on all ranks."""
    return [value] if get_world_size() == 1 else list(all_gather_object(value))


def broadcast_object(value: Any) -> Any:
    """Return rank 0's value on every rank; call it on all ranks."""
    if get_world_size() == 1:
        return value
    box = [value]
    broadcast_object_list(box, src=0)
    return box[0]


def mean_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the ranks, not finite if it is so on any rank; call it on all ranks."""
    if hasattr(value, 'full_tensor'):
        # Of sharded weights, and the same on every rank.
        return value.full_tensor()
    if get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / get_world_size()


@contextmanager
def alone(model: Any) -> Iterator[None]:
    """Let every collective of a model end on this rank, as in a run of one process.

    For a forward pass that this rank may leave by an exception: no other rank
    waits for it, and what a layer such as SyncBN takes from others is left out.

    Args:
        model (nn.Module): Without a wrapper such as DDP. Collectives of the default group, and of groups that its
            modules have as attributes, are kept from other ranks.
    """
    if get_world_size() == 1:
        yield
        return
    everybody = dist.GroupMember.WORLD
    own = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    groups = [(vars(module), name, value, own) for module in model.modules() for name, value in vars(module).items()
              if isinstance(value, dist.ProcessGroup)]
    # mmcv's SyncBN keeps the size of its group as well.
    sizes = [(fields, 'group_size', fields['group_size'], 1) for fields, *_ in groups if 'group_size' in fields]
    try:
        dist.GroupMember.WORLD = own
        for fields, name, _, value in [*groups, *sizes]:
            fields[name] = value
        yield
    finally:
        dist.GroupMember.WORLD = everybody
        for fields, name, value, _ in [*groups, *sizes]:
            fields[name] = value
        leave_group(own)


def leave_group(group: dist.ProcessGroup | None = None) -> None:
    """Take down a process group that this rank is in; by default that of the whole job.

    When a collective is done, a thread of gloo still has to let go of its tensors, for which it needs the GIL. So it
    gets its turn before and after: torch 2.6 keeps the GIL while it waits for that thread, for ever; with torch 2.13
    the thread lives on where something else refers to the group, as a model in DDP or a traceback does, and before
    CPython 3.14 to ask for the GIL while the interpreter ends is an abort of the process (pytorch issue 190489).

    Args:
        group (ProcessGroup, optional): The group. Defaults to that of the whole job.
    """
    pause = 0.2 if dist.get_backend(group) == 'gloo' else 0
    time.sleep(pause)
    dist.destroy_process_group(group)
    time.sleep(pause)


def host_scalars(outputs: Mapping[str, Any] | None) -> dict[str, float]:
    """Keep the scalar entries of a train step's outputs as floats.

    MMEngine's ``RuntimeInfoHook`` reads every entry with ``.item()`` at each
    iteration already, so this adds no synchronisation of its own kind; lists
    of tensors are summed by the model before they get here.
    """
    scalars: dict[str, float] = {}
    for name, value in (outputs or {}).items():
        if isinstance(value, (int, float)):
            scalars[name] = float(value)
        elif getattr(value, 'numel', lambda: 0)() == 1:
            scalars[name] = float(value.item())
    return scalars


def on_train_exit(runner: Any, callback: ExitCallback, last: bool = False) -> None:
    """Call ``callback(reason, error)`` once when training ends, however it ends.

    MMEngine fires no event when training ends by an exception or a signal, so
    the loop's ``run`` is wrapped in try/finally. SIGTERM is turned into
    ``SystemExit(143)`` while the loop runs, unless the program has a handler
    of its own. Call it in ``before_run``: in ``before_train`` the loop runs
    already, and only what was registered before can still be added to.

    Args:
        runner (Runner): The runner; its train loop must have been built.
        callback (callable): Takes ``reason`` (``'finished'``, ``'exception'``
            ``'signal'`` or ``'monitor'``) and the exception or None. Callbacks run in the
            order in which they were registered; one that raises does not keep
            the others from running.
        last (bool): Run it after those that are registered without this, for
            instance when the store has been closed. Defaults to False.
    """
    loop = runner.train_loop
    callbacks = getattr(loop, '_mmckpt_exit_callbacks', None)
    if callbacks is None:
        callbacks = loop._mmckpt_exit_callbacks = ([], [])
        _wrap_run(loop, callbacks)
    callbacks[last].append(callback)


def _wrap_run(loop: Any, callbacks: tuple[list[ExitCallback], list[ExitCallback]]) -> None:
    run = loop.run

    def run_guarded() -> Any:
        previous = _sigterm_raises()
        reason, error = 'finished', None
        try:
            return run()
        except BaseException as caught:
            reason = ('monitor' if isinstance(caught, StoppedByMonitor) else
                      'signal' if isinstance(caught, (KeyboardInterrupt, SystemExit)) else 'exception')
            error = caught
            raise
        finally:
            try:
                _run_all([*callbacks[0], *callbacks[1]], reason, error)
            finally:
                del loop.run, loop._mmckpt_exit_callbacks
                if previous is not None:
                    signal.signal(signal.SIGTERM, previous)

    loop.run = run_guarded


def _run_all(callbacks: list[ExitCallback], reason: str, error: BaseException | None) -> None:
    """Run every callback; re-raise the first failure only if training itself had none."""
    first: BaseException | None = None
    for callback in callbacks:
        try:
            callback(reason, error)
        except Exception as failure:
            first = first or failure
    if first is not None and error is None:
        raise first


def _sigterm_raises() -> Any:
    """Let SIGTERM raise SystemExit; return the handler to put back, or None if untouched."""
    if threading.current_thread() is not threading.main_thread():
        return None
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return None

    def leave(signum: int, frame: Any) -> None:
        raise SystemExit(128 + signum)

    return signal.signal(signal.SIGTERM, leave)


def validation_due(runner: Any, progress: Progress, by_epoch: bool) -> bool:
    """Whether the train loop will validate right after this step.

    Mirrors the condition in MMEngine's two train loops, dynamic intervals
    included.

    Args:
        runner (Runner): The runner.
        progress (Progress): Completed counts at this step.
        by_epoch (bool): Whether the step is the end of an epoch or of an
            iteration; an epoch-based loop validates after epochs only.
    """
    loop = runner.train_loop
    if runner.val_loop is None or not hasattr(loop, 'dynamic_milestones'):
        return False
    if by_epoch == isinstance(loop, IterBasedTrainLoop):
        return False
    count, end = progress.count(by_epoch), loop.max_epochs if by_epoch else loop.max_iters
    interval = loop.dynamic_intervals[bisect.bisect(loop.dynamic_milestones, count + 1) - 1]
    return bool(count >= loop.val_begin and (count % interval == 0 or count == end))


class SharedFlag:
    """A flag that any rank may raise and that all ranks see at the same iteration.

    Each :meth:`update` starts a reduction on the CPU and reads that of the
    call before, so that a rank waits for nobody's current iteration and no
    device is synchronised; the answer is one iteration late. With one rank it
    is immediate. Make it and update it on every rank.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend='gloo') if get_world_size() > 1 else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def update(self, raised: bool) -> bool:
        """Hand in this rank's flag; return whether any rank had raised it."""
        if self._group is None:
            return raised
        before, flag = self._pending, torch.tensor([int(raised)])
        self._pending = dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True), flag
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item())


def bound_history(message_hub: Any, length: int) -> None:
    """Keep the last values of each scalar of the hub only.

    Stock keeps up to a million: each update then copies them all, and all of
    them travel in every checkpoint. Printed means over longer windows and
    ``global`` statistics cover the kept values.

    Args:
        message_hub (MessageHub): The hub.
        length (int): How many values to keep.
    """
    for buffer in message_hub.log_scalars.values():
        bound_scalar(buffer, length)


def bound_scalar(buffer: Any, length: int) -> None:
    """Keep the last values of one scalar of the hub; a bound that is tighter already stays."""
    buffer.max_length = min(buffer.max_length, length)
    if len(buffer._log_history) > length:
        # Copies, since a view would keep the whole history alive.
        buffer._log_history = buffer._log_history[-length:].copy()
        buffer._count_history = buffer._count_history[-length:].copy()
