"""Leaves a run in good order when the machine is wanted back."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from functools import partial
from multiprocessing.sharedctypes import RawValue
from typing import Any, Callable

from mmengine.hooks import Hook

from mmckpt.hooks.runner_adapter import SharedFlag, is_training, on_train_exit, progress_after_iter
from mmckpt.policy.duration import parse_duration
from mmckpt.registry import HOOKS

# EX_TEMPFAIL of sysexits.h: "try again later", which is what a scheduler should do.
EXIT_CODE = 75


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves a checkpoint and leaves when a signal or the clock asks for it.

    SIGTERM and SIGINT (Ctrl-C), SIGUSR1 (SLURM's ``--signal=USR1@120``) or a
    time limit ask for a checkpoint at the end of the running iteration, on
    all ranks at the same one; then the process leaves with exit status 75.
    Nothing is saved inside the signal handler. A second signal stops at once.
    Data workers ignore these signals, so that one to the whole process group
    does not take the batch away that is being trained.

    It needs ``mmckpt.CheckpointHook``; inside an epoch it is exact with
    ``mmckpt.EpochBasedTrainLoop`` (stock's loop starts the epoch again).

    Args:
        signals (Sequence[str]): Names of the signals to listen to. Defaults to
            ``('SIGTERM', 'SIGUSR1', 'SIGINT')``.
        time_limit (str or float, optional): Longest run time of this process,
            as ``'[D-]HH:MM:SS'``, ``'24h'`` or seconds; leave room for the last
            iteration and a save. Defaults to None, no limit.

    Raises:
        ValueError: If a signal is unknown or the limit cannot be read.

    Example:
        >>> custom_hooks = [dict(type='mmckpt.PreemptionHook', time_limit='23:30:00')]
    """

    # After all other hooks of the iteration, whose state goes into the checkpoint.
    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1', 'SIGINT'),
                 time_limit: Any | None = None) -> None:
        unknown = [name for name in signals if not hasattr(signal, name)]
        if unknown:
            raise ValueError(f'PreemptionHook(signals=...): this system has no signal {unknown[0]!r}.')
        self.signals = [getattr(signal, name) for name in signals]
        self.time_limit = None if time_limit is None else parse_duration(time_limit)
        self._start = time.monotonic()
        self._asked_by: str | None = None
        self._previous: dict[int, Any] = {}
        # Shared with the workers of the data loaders.
        self._is_over = RawValue('b', True)

    def before_run(self, runner: Any) -> None:
        """Listen to the signals for as long as the training runs."""
        if not is_training(runner):
            return
        self._is_over.value = False
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        for loader in (part for loop in loops for part in getattr(loop.dataloader, 'loaders', [loop.dataloader])):
            if loader.num_workers > 0:
                loader.worker_init_fn = partial(_outlast_signals, self.signals, self._is_over, loader.worker_init_fn)
                atexit.register(_end_persistent_workers, weakref.ref(loader))
        # Handlers can be set in the main thread only; elsewhere the program listens itself.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in self.signals}
        on_train_exit(runner, self._restore_handlers)

    def before_train(self, runner: Any) -> None:
        """Prepare the agreement between ranks."""
        self._flag = SharedFlag()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and leave, if any rank was asked to."""
        if self.time_limit is not None and self._asked_by is None:
            if time.monotonic() - self._start >= self.time_limit:
                self._asked_by = f'time_limit of {self.time_limit:.0f} s'
        if not self._flag.update(self._asked_by is not None):
            return
        progress = progress_after_iter(runner)
        runner.logger.warning(
            f'{self._asked_by or "Another rank"} asks to stop: saving at iteration {progress.iter} and leaving with '
            f'exit status {EXIT_CODE}. Run again with --resume to go on.')
        for hook in runner.hooks:
            if hasattr(hook, 'save_interrupted'):
                hook.save_interrupted(runner, progress)
        raise SystemExit(EXIT_CODE)

    def _on_signal(self, number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        if self._asked_by is not None:
            self._restore_handlers('signal', None)
            raise SystemExit(128 + number)
        self._asked_by = name

    def _restore_handlers(self, reason: str, error: BaseException | None) -> None:
        self._is_over.value = True
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def _end_persistent_workers(reference: weakref.ref) -> None:
    # A worker that Python's exit terminates a moment late makes torch raise in the middle of that exit.
    iterator = getattr(reference(), '_iterator', None)
    if iterator is not None:
        iterator._shutdown_workers()


def _outlast_signals(signals: list[int], is_over: Any, inner: Callable[[int], None] | None, worker_id: int) -> None:
    def take(number: int, frame: Any) -> None:
        # Python ends the workers that are left at its own exit by SIGTERM, and waits for them.
        if is_over.value:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in signals:
        signal.signal(number, take)
    if inner is not None:
        inner(worker_id)
