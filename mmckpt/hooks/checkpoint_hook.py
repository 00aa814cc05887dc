"""A drop-in for MMEngine's CheckpointHook that cannot lose a checkpoint."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmengine.fileio import FileClient, LocalBackend
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmckpt.hooks import checkpoint_arguments, run_store
from mmckpt.hooks.best_files import BestFiles
from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.capture import StateCapture
from mmckpt.hooks.flexible import prepare_before_load
from mmckpt.hooks.mapped_resume import MappedResume
from mmckpt.hooks.monitored_metrics import warn_of_impossible
from mmckpt.hooks.periodic_files import resume_last, save_periodic
from mmckpt.hooks.preflight import resume_preflight
from mmckpt.hooks.remote_out_dir import RemoteOutDir
from mmckpt.hooks.resume import LoadedCheckpoint, choose_resume_file
from mmckpt.hooks.runner_adapter import (
    bound_history,
    is_training,
    on_train_exit,
    progress_after_epoch,
    progress_after_iter,
    progress_between,
    show_every_warning,
    validation_due,
)
from mmckpt.hooks.step_writer import StepWriter
from mmckpt.hooks.strategy_save import name_of_writer, tell_of_directory
from mmckpt.policy.retention import AnyOf
from mmckpt.policy.selection import DEFAULT_GREATER, DEFAULT_LESS
from mmckpt.progress import Progress
from mmckpt.registry import HOOKS
from mmckpt.store import CheckpointStore, Record

# Iterations between two looks at the length of the hub's histories.
BOUND_HISTORY_EVERY = 100


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """Saves checkpoints periodically and when a metric is best, and never loses one.

    Arguments, file names and ``message_hub`` entries are those of MMEngine's. What differs:

    - A file counts only when its bytes are on the disk and its record is in the
      index. Nothing is deleted before its replacement is there.
    - A step is written once, before its validation; what that changed goes into
      the record. A best holds the whole state, as a hard link if possible.
    - A resume starts from the newest file that verifies, and restores every hook's state.
    - What a strategy of a FlexibleRunner writes as a directory counts as one file.
    - Rules are inferred for more metrics, and ``save_best`` takes, next to
      names, specs: see :class:`mmckpt.policy.selection.Selection`.

    With ``out_dir='s3://...'`` (any URL that fsspec reaches) files are uploaded in
    the background, and a resume elsewhere brings the newest one back. Storage
    by ``backend_args`` is MMEngine's code, without these guarantees.

    Args:
        *args: Positional arguments of MMEngine's ``CheckpointHook``.
        interval (int or 'auto'): As in MMEngine. 'auto' measures what a save and an
            iteration cost, and saves as ``max_overhead`` (or ``mtbf``) says.
            Defaults to -1, never.
        max_overhead (float): With 'auto', the largest share of the time that
            saving may take. Defaults to 0.01.
        mtbf (str or float, optional): With 'auto', the mean time between failures
            (``'24h'`` or seconds), for Young's interval instead. Defaults to None.
        history (int): Values of each logged scalar that are kept. Defaults to 1000.
        save_on_exception (bool): Whether to save when training ends by an
            exception: marked as not exact, never a best. Defaults to False.
        keep_every (int): Keep every Nth periodic checkpoint for ever, on top of
            ``max_keep_ckpts``; counts as ``interval`` does. Defaults to -1, none.
        store (dict, optional): ``async_save``, ``on_busy`` and ``max_failures`` of
            :class:`mmckpt.store.CheckpointStore`; ``keep_corrupt``: whether a
            file that a resume had to skip is kept as ``*.corrupt``. Defaults to None.
        **kwargs: Keyword arguments of MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: If an argument is unknown or out of its range.

    Example:
        >>> hook = CheckpointHook(interval=10, max_keep_ckpts=3, save_best=[
        ...     'AP', dict(metric='PCK', keep=3, smooth=0.6),
        ...     dict(name='score', expr='0.7 * AP + 0.3 * PCK', rule='greater')])
        >>> hook.key_indicators
        ['AP', 'PCK', 'score']
    """

    _default_greater_keys = list(DEFAULT_GREATER)
    _default_less_keys = list(DEFAULT_LESS)
    # A FlexibleRunner calls `before_run` of this hook before it loads, as a Runner does.
    prepares_load = True

    def __init__(self, *args: Any, max_overhead: float = 0.01, mtbf: str | float | None = None,
                 history: int = 1000, save_on_exception: bool = False, keep_every: int = -1,
                 store: dict | None = None, **kwargs: Any) -> None:
        arguments, self.selections = checkpoint_arguments.split_save_best(super().__init__, args, kwargs)
        super().__init__(**arguments)
        prepare_before_load()
        checkpoint_arguments.check_arguments(self, keep_every, history)
        self._auto = checkpoint_arguments.auto_schedule(self.interval, max_overhead, mtbf)
        self.history = history
        self.save_on_exception = save_on_exception
        self.keep_every = keep_every
        self.store_cfg, self.keep_corrupt = checkpoint_arguments.checked_store_cfg(store)
        self.rejected: list[Record] = []
        self._mapped = MappedResume()
        self.store: CheckpointStore | None = None
        self._asked_out_dir = self.out_dir
        self.remote: RemoteOutDir | None = None
        self._is_training = False
        self._loaded: LoadedCheckpoint | None = None
        # Of the rollback that the next attempt begins with.
        self.event: dict | None = None
        self._metrics: dict[str, float] = {}
        self._best = BestMetrics(self)
        self._best_files = BestFiles(self, self._best)
        # While a training runs and its files lie on the local disk.
        self._writer: StepWriter | None = None

    # Events of the run -------------------------------------------------------

    def before_run(self, runner: Any) -> None:
        """Choose the newest valid file for a resume, before the Runner loads one."""
        if not is_training(runner):
            return
        show_every_warning(runner.logger)
        run_store.locate(self, runner, self._asked_out_dir)
        on_train_exit(runner, partial(self._close, runner))
        if self.remote is not None:
            self.remote.pull(runner.logger, runner._resume)
        if self._is_local:
            self.rejected = choose_resume_file(runner, self.out_dir)
            if self.remote is not None:
                self.remote.pull_for_other_nodes(runner.logger, runner._load_from)
            self.prepare_load(runner)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Say what changed since, and keep what MMEngine does not restore until ``before_train``."""
        # Of a directory, what counts is known already.
        if runner._resume and is_training(runner) and self._loaded is None:
            self._look_at(runner, checkpoint)

    def before_train(self, runner: Any) -> None:
        """Open the store and finish a resume."""
        run_store.locate(self, runner, self._asked_out_dir)
        self._is_training = True
        runner.logger.info(f'Checkpoints will be saved to {self.out_dir}'
                           + ('.' if self.remote is None else f' and uploaded to {self.remote.shown}.'))
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            self._mapped.release(runner)
            loaded.restore(runner)
        warn_of_impossible(runner, self.selections)
        self._best.resume(runner)
        resume_last(self, runner)
        if not self._is_local:
            checkpoint_arguments.refuse_specs(self.selections, self.out_dir)
            return
        self.store = run_store.open_store(self, runner, loaded)
        capture = StateCapture(runner, self.save_optimizer, self.save_param_scheduler, self.history)
        self._writer = StepWriter(capture, self.store, self._auto)
        if loaded is not None:
            run_store.finish_resume(self, runner, loaded, self._best, self._writer)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Save if a save by iterations is due."""
        if self._auto is not None:
            self._auto.after_iter()
        if batch_idx % BOUND_HISTORY_EVERY == 0:
            bound_history(runner.message_hub, self.history)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def every_n_epochs(self, runner: Any, n: int, start: int = 0) -> bool:
        """Whether a save by epochs is due."""
        if self._auto is None:
            return super().every_n_epochs(runner, n, start)
        progress = progress_after_epoch(runner)
        return progress.epoch > start and self._auto.due(progress)

    def every_n_train_iters(self, runner: Any, n: int, start: int = 0) -> bool:
        """Whether a save by iterations is due."""
        if self._auto is None:
            return super().every_n_train_iters(runner, n, start)
        progress = progress_after_iter(runner)
        return progress.iter > start and self._auto.due(progress)

    def before_val(self, runner: Any) -> None:
        """Leave the validation out of the time of an iteration."""
        if self._auto is not None:
            self._auto.interrupted()

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Save the best checkpoint, if this validation made one."""
        self._metrics = self._best.scalars(metrics)
        # A validation outside a training (`runner.val()`) judges no checkpoint.
        if self._is_training or not metrics:
            super().after_val_epoch(runner, metrics)

    def after_val(self, runner: Any) -> None:
        """Complete the records of this step's files with what the validation changed."""
        if self._writer is not None and self._writer.wrote(progress_between(runner)):
            self._writer.complete(self._metrics)

    def after_train(self, runner: Any) -> None:
        """Make sure that the last state is on disk, then publish as MMEngine does."""
        if self._writer is not None:
            run_store.finish(self, runner, self._writer, save_end=self.save_last and (self._auto or self.interval > 0))
        super().after_train(runner)

    def save_interrupted(self, runner: Any, progress: Progress) -> None:
        """Save off the interval, because the run is about to be stopped; call it on every rank.

        Args:
            runner (Runner): The runner, in ``after_train_iter``.
            progress (Progress): Completed counts.
        """
        if self._writer is not None and not self._writer.has(progress):
            self._writer.make_way()
            self._writer.claims.settle_before_write()
            self._writer.write(f'interrupted_iter_{progress.iter}.pth', progress, roles=('interrupted',),
                               val_pending=validation_due(runner, progress, by_epoch=False))

    def close_for_rollback(self, name: str, event: dict) -> None:
        """Make a file the newest one and end this attempt; the next ``before_train`` begins another one.

        Args:
            name (str): The file that training goes back to.
            event (dict): What the history of attempts keeps of it.
        """
        self._writer, self.rejected, self.event = None, [], dict(event)
        if self.store is not None:
            store, self.store = self.store, None
            store.rewind(name)
            store.close('rollback')

    def prepare_load(self, runner: Any) -> None:
        """Let the Runner read its resume file through our loader; learn what a directory holds for hooks."""
        self._mapped.prepare(runner)
        told = tell_of_directory(runner) if runner._resume else None
        if told is not None:
            self._look_at(runner, told)

    # Writing -----------------------------------------------------------------

    def _save_checkpoint(self, runner: Any) -> None:
        if self._writer is None:
            super()._save_checkpoint(runner)
            return
        progress = progress_after_epoch(runner) if self.by_epoch else progress_after_iter(runner)
        save_periodic(self, runner, self._writer, progress, validation_due(runner, progress, self.by_epoch))

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        if self._writer is None:
            super()._save_best_checkpoint(runner, metrics)
            return
        self._best_files.save(runner, self._writer, metrics)

    # State --------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what later judgements depend on and neither hub nor records hold."""
        return self._best.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on judging where a run left off."""
        self._best.load_state_dict(state)

    # Set-up ------------------------------------------------------------------

    @property
    def file_client(self) -> FileClient:
        """MMEngine's old client, made when somebody asks: making one warns that it is deprecated."""
        if self._file_client is None:
            self._file_client = FileClient.infer_client(self.file_client_args, self.out_dir)
        return self._file_client

    @property
    def _is_local(self) -> bool:
        backend = self.file_backend
        return isinstance(getattr(backend, 'client', backend), LocalBackend)

    def retention(self) -> AnyOf:
        """Return what is kept of the current run."""
        return run_store.retention_of(self, self._best.selections)

    def _init_rule(self, rules: list, key_indicators: list) -> None:
        self.selections = checkpoint_arguments.settle_rules(
            self.selections, key_indicators, rules, self.greater_keys, self.less_keys)
        self.key_indicators = key_indicators
        self.rules = [selection.rule for selection in self.selections]
        self.is_better_than.update((k, self.rule_map[r]) for k, r in zip(key_indicators, self.rules) if r)

    def _look_at(self, runner: Any, checkpoint: dict) -> None:
        resume_preflight(runner, runner._load_from, checkpoint)
        self._loaded = LoadedCheckpoint(runner._load_from, checkpoint, name_of_writer(runner))

    def _close(self, runner: Any, reason: str, error: BaseException | None) -> None:
        if self._writer is not None:
            run_store.leave(self, runner, self._writer, reason, error)
        self._writer = None
        self._is_training = False
        if self.store is not None:
            store, self.store = self.store, None
            store.close(reason, error)
