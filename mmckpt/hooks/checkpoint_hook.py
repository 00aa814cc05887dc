"""A drop-in for MMEngine's CheckpointHook that cannot lose a checkpoint."""

from __future__ import annotations

import math
import os.path as osp
from collections import deque
from functools import partial
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import FileClient, LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmckpt.errors import near_matches
from mmckpt.hooks.best_metrics import BestMetrics
from mmckpt.hooks.capture import StateCapture, predicted_bytes
from mmckpt.hooks.checkpoint_arguments import auto_schedule, check_arguments, checked_store_cfg
from mmckpt.hooks.mapped_resume import MappedResume
from mmckpt.hooks.preflight import resume_preflight
from mmckpt.hooks.resume import LoadedCheckpoint, choose_resume_file
from mmckpt.hooks.resume_banner import resume_banner
from mmckpt.hooks.runner_adapter import (
    bound_history,
    broadcast_object,
    is_training,
    on_train_exit,
    progress_after_epoch,
    progress_after_iter,
    progress_between,
    validation_due,
)
from mmckpt.hooks.step_writer import StepWriter
from mmckpt.hooks.validation_delta import PendingValidationHook
from mmckpt.policy.retention import AnyOf, KeepBest, KeepEvery, KeepLast, KeepNone, KeepRoles
from mmckpt.policy.selection import DEFAULT_GREATER, DEFAULT_LESS, infer_rule
from mmckpt.progress import Progress
from mmckpt.registry import HOOKS
from mmckpt.store import CheckpointStore, Record

# Iterations between two looks at the length of the hub's histories.
BOUND_HISTORY_EVERY = 100


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """Saves checkpoints periodically and when a metric is best, and never loses one.

    It takes every argument of MMEngine's ``CheckpointHook`` with the same
    meaning, file names and ``message_hub`` entries. What differs:

    - A file is written under a temporary name, synced and renamed, and counts
      only when its record (with a digest of its bytes) is in
      ``mmckpt_index.json``. Nothing is deleted before its replacement is there.
    - A best checkpoint holds the whole training state, so one can resume from
      it; it is a hard link where the same step has been written already.
    - A step is written once, before its validation. What the validation
      changed goes into the file's record, and a validation that was killed is
      made up on the resume.
    - A resume starts from the newest file that verifies, and restores the
      state of every hook with ``state_dict`` and ``load_state_dict``.
    - Rules are inferred for more metrics (AP, PCK, EPE, abs_rel, ...).

    Storage backends other than the local disk are served by MMEngine's own
    code, without these guarantees.

    Args:
        *args: Positional arguments of MMEngine's ``CheckpointHook``.
        interval (int or 'auto'): As in MMEngine. 'auto' measures what a save
            costs and how long an iteration takes, and saves as often as
            ``max_overhead`` (or ``mtbf``) says. Defaults to -1, never.
        max_overhead (float): With ``interval='auto'``, the largest share of
            the time that saving may take. Defaults to 0.01.
        mtbf (str or float, optional): With ``interval='auto'``, the mean time
            between failures, such as ``'24h'`` or seconds; Young's interval is
            taken instead of a bound on the overhead. Defaults to None.
        history (int): Values of each logged scalar that are kept in memory and
            in checkpoints; stock keeps a million. Defaults to 1000.
        save_on_exception (bool): Whether to save once more when training ends
            by an exception. The file is marked: random streams and data are
            those of the moment, so a resume from it is not bit-exact, and it
            is never a best. Defaults to False.
        keep_every (int): Keep every Nth periodic checkpoint for ever, on top
            of ``max_keep_ckpts``; counts epochs or iterations as ``interval``
            does. Defaults to -1, none.
        store (dict, optional): Arguments of :class:`mmckpt.store.CheckpointStore`:
            ``async_save``, ``on_busy``, ``max_failures``; and ``keep_corrupt``:
            whether a file that a resume had to skip is kept as ``*.corrupt``
            instead of being replaced when its step is saved again. Defaults to
            None.
        **kwargs: Keyword arguments of MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: If an argument is unknown or out of its range.

    Example:
        >>> default_hooks = dict(checkpoint=dict(
        ...     type='mmckpt.CheckpointHook', interval=10, max_keep_ckpts=3,
        ...     save_best=['AP', 'PCK'], rule='greater'))
    """

    _default_greater_keys = list(DEFAULT_GREATER)
    _default_less_keys = list(DEFAULT_LESS)

    def __init__(self, *args: Any, max_overhead: float = 0.01, mtbf: str | float | None = None,
                 history: int = 1000, save_on_exception: bool = False, keep_every: int = -1,
                 store: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_arguments(self, keep_every, history)
        self._auto = auto_schedule(self.interval, max_overhead, mtbf)
        self.history = history
        self.save_on_exception = save_on_exception
        self.keep_every = keep_every
        self.store_cfg, self.keep_corrupt = checked_store_cfg(store)
        self._rejected: list[Record] = []
        self._mapped = MappedResume()
        self.store: CheckpointStore | None = None
        self._asked_out_dir = self.out_dir
        self._is_training = False
        self._loaded: LoadedCheckpoint | None = None
        # Of the rollback that the next attempt begins with.
        self._event: dict | None = None
        self._metrics: dict[str, float] = {}
        self._best = BestMetrics(self)
        # While a training runs and its files lie on the local disk.
        self._writer: StepWriter | None = None

    # Events of the run -------------------------------------------------------

    def before_run(self, runner: Any) -> None:
        """Choose the newest valid file for a resume, before the Runner loads one."""
        if not is_training(runner):
            return
        self._locate(runner)
        on_train_exit(runner, partial(self._close, runner))
        if self._is_local:
            self._rejected = choose_resume_file(runner, self.out_dir)
            self._mapped.prepare(runner)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Say what changed since, and keep what MMEngine does not restore until ``before_train``."""
        if runner._resume and is_training(runner):
            resume_preflight(runner, runner._load_from, checkpoint)
            self._loaded = LoadedCheckpoint(runner._load_from, checkpoint)

    def before_train(self, runner: Any) -> None:
        """Open the store and finish a resume."""
        self._locate(runner)
        self._is_training = True
        runner.logger.info(f'Checkpoints will be saved to {self.out_dir}.')
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            self._mapped.release(runner)
            loaded.restore(runner)
        if self.save_best and runner.val_loop is None:
            runner.logger.warning(
                f'save_best={self.save_best} has nothing to judge: the config has no validation (val_dataloader, '
                'val_cfg, val_evaluator). Only periodic checkpoints will be saved.')
        self._best.resume(runner)
        self._resume_keep_ids(runner)
        if not self._is_local:
            return
        if is_main_process():
            self._open_store(runner, loaded)
        capture = StateCapture(runner, self.save_optimizer, self.save_param_scheduler, self.history)
        self._writer = StepWriter(capture, self.store, self._auto)
        if loaded is not None:
            self._finish_resume(runner, loaded)

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
        if self._writer is not None and self._writer.has(progress_between(runner)):
            self._writer.complete(self._metrics)

    def after_train(self, runner: Any) -> None:
        """Make sure that the last state is on disk, then publish as MMEngine does."""
        if self._writer is not None and self.save_last and (self._auto or self.interval > 0):
            self._save_unsaved_end(runner)
        if self.store is not None:
            self.store.wait()
        super().after_train(runner)

    def save_interrupted(self, runner: Any, progress: Progress) -> None:
        """Save off the interval, because the run is about to be stopped; call it on every rank.

        Args:
            runner (Runner): The runner, in ``after_train_iter``.
            progress (Progress): Completed counts.
        """
        if self._writer is not None and not self._writer.has(progress):
            self._writer.write(f'interrupted_iter_{progress.iter}.pth', progress, roles=('interrupted',),
                               val_pending=validation_due(runner, progress, by_epoch=False))

    def close_for_rollback(self, name: str, event: dict) -> None:
        """Make a file the newest one and end this attempt; the next ``before_train`` begins another one.

        Args:
            name (str): The file that training goes back to.
            event (dict): What the history of attempts keeps of it.
        """
        self._writer, self._rejected, self._event = None, [], dict(event)
        if self.store is not None:
            store, self.store = self.store, None
            store.rewind(name)
            store.close('rollback')

    def prepare_load(self, runner: Any) -> None:
        """Let the Runner read its resume file through our loader."""
        self._mapped.prepare(runner)

    # Writing -----------------------------------------------------------------

    def _save_checkpoint(self, runner: Any) -> None:
        if self._writer is None:
            super()._save_checkpoint(runner)
            return
        progress = progress_after_epoch(runner) if self.by_epoch else progress_after_iter(runner)
        self._save_periodic(runner, progress, validation_due(runner, progress, self.by_epoch))

    def _save_periodic(self, runner: Any, progress: Progress, val_pending: bool) -> None:
        step = progress.count(self.by_epoch)
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self._point_last(runner, step)
        self._writer.write(name, progress, roles=('periodic',), val_pending=val_pending)

    def _save_unsaved_end(self, runner: Any) -> None:
        """Early stopping ends a run between two intervals; stock would leave no file of its end."""
        progress = progress_between(runner)
        step = progress.count(self.by_epoch)
        name = self.filename_tmpl.format(step)
        if step > 0 and self.last_ckpt != self.file_backend.join_path(self.out_dir, name):
            self._save_periodic(runner, progress, val_pending=False)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        if self._writer is None:
            super()._save_best_checkpoint(runner, metrics)
            return
        progress = progress_between(runner)
        step_file = self.filename_tmpl.format(progress.count(self.by_epoch))
        improved = self._best.improved(runner, metrics)
        if self.store is not None:
            self.store.retention = self._retention()
        for metric, score in improved:
            self._best.note(runner, metric, score, f'best_{metric}_{step_file}'.replace('/', '_'))
        # As with stock, the step of a best has a file under its plain name too, once there are periodic files.
        named = (bool(improved) and not self._writer.has(progress) and self.last_ckpt is not None
                 and osp.basename(self.last_ckpt) != step_file)
        if named:
            self._point_last(runner, progress.count(self.by_epoch))
        for metric, score in improved:
            self._place_best(runner, metric, score, progress)
        if named and self._writer.has(progress):
            self._writer.link(step_file, roles=tuple(f'best:{m}' for m, _ in improved), scores=dict(improved),
                              point_last=True)

    def _place_best(self, runner: Any, metric: str, score: float, progress: Progress) -> None:
        name = osp.basename(self._best.path(metric))
        roles, scores = (f'best:{metric}',), {metric: score}
        if self._writer.has(progress):
            self._writer.link(name, roles=roles, scores=scores)
        else:
            self._writer.write(name, progress, roles=roles, scores=scores, point_last=False)
        runner.logger.info(
            f'The best checkpoint with {score:0.4f} {metric} at {progress.count(self.by_epoch)} '
            f'{"epoch" if self.by_epoch else "iter"} is saved to {name}.')

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

    def _locate(self, runner: Any) -> None:
        """Find directory and backend; both are needed before and during training."""
        asked = self._asked_out_dir
        self.out_dir = runner.work_dir if asked is None else asked
        self._file_client: FileClient | None = None
        self.file_backend = (self.file_client if self.file_client_args is not None
                             else get_file_backend(self.out_dir, backend_args=self.backend_args))
        if self.out_dir != runner.work_dir:
            basename = osp.basename(runner.work_dir.rstrip(osp.sep))
            self.out_dir = self.file_backend.join_path(self.out_dir, basename)

    def _open_store(self, runner: Any, loaded: LoadedCheckpoint | None) -> None:
        self.store = CheckpointStore(
            self.out_dir, retention=self._retention(), pointer=osp.join(runner.work_dir, 'last_checkpoint'),
            logger=runner.logger, **self.store_cfg)
        self.store.open(resumed_from=None if loaded is None else loaded.path, event=self._event)
        if self.keep_corrupt:
            for record in self._rejected:
                self.store.set_aside(record)
        self._check_fits(runner)
        earlier = len(self.store.records())
        if loaded is None and earlier:
            runner.logger.warning(
                f'{self.out_dir} holds {earlier} checkpoints of an earlier run, and this run starts anew: files of '
                'the same name will be replaced, all others stay. Pass --resume (resume=True) to go on with that '
                'run, or choose another work_dir.')

    def _check_fits(self, runner: Any) -> None:
        """Say before training has cost an hour that its checkpoints will not fit on the disk."""
        known = self.store.records_of_run()
        size = known[-1].size if known else predicted_bytes(runner, self.save_optimizer)
        files = self.store.retention.most_files()
        if files is None and isinstance(self.interval, int) and self.interval > 0:
            steps = runner.max_epochs if self.by_epoch else runner.max_iters
            files = math.ceil(steps / self.interval) + len(self._best.rules())
        if files is not None:
            self.store.check_run_fits(size, files)

    def _finish_resume(self, runner: Any, loaded: LoadedCheckpoint) -> None:
        name = osp.basename(loaded.path)
        local = self.store is not None and osp.realpath(loaded.path) == osp.realpath(osp.join(self.out_dir, name))
        known = local and self.store.find(name) is not None
        records, known = broadcast_object((self.store and self.store.records_of_run(), known))
        self._best.resume_from_store(runner, records)
        runner.logger.info(resume_banner(runner, loaded))
        if loaded.validation_pending and runner.val_loop is not None:
            if known:
                # The record of this file takes the results, and a best can be a link to it.
                self._writer.adopt(name, progress_between(runner))
            runner.register_hook(PendingValidationHook())

    def _retention(self) -> Any:
        periodic = KeepRoles('periodic') if self.max_keep_ckpts < 0 else KeepLast(self.max_keep_ckpts)
        policies = [periodic, KeepNone('interrupted'), KeepNone('exception')]
        policies += [KeepBest(f'best:{metric}', 1, rule) for metric, rule in self._best.rules()]
        if self.keep_every > 0:
            policies.append(KeepEvery(self.keep_every, by_epoch=self.by_epoch))
        return AnyOf(*policies)

    def _init_rule(self, rules: list, key_indicators: list) -> None:
        rules = rules * len(key_indicators) if len(rules) == 1 else rules
        for rule in rules:
            if rule not in self.rule_map and rule is not None:
                raise KeyError(
                    f'rule must be greater, less or None, but got {rule}. {near_matches(rule, self.rule_map)}')
        self.key_indicators = key_indicators
        self.rules = [rule if rule or key == 'auto' else infer_rule(key, None, self.greater_keys, self.less_keys)
                      for key, rule in zip(key_indicators, rules)]
        self.is_better_than.update((k, self.rule_map[r]) for k, r in zip(key_indicators, self.rules) if r)

    def _resume_keep_ids(self, runner: Any) -> None:
        if self.max_keep_ckpts > 0:
            ids = runner.message_hub.runtime_info.get('keep_ckpt_ids', [])
            self.keep_ckpt_ids: deque = deque(ids, self.max_keep_ckpts)
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt', self.last_ckpt)

    def _point_last(self, runner: Any, step: int) -> str:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        return name

    def _close(self, runner: Any, reason: str, error: BaseException | None) -> None:
        if self._writer is not None and reason == 'exception' and self.save_on_exception:
            # Updates that were applied; the Runner counts an iteration after its last hook.
            applied = getattr(runner.optim_wrapper, '_inner_count', runner.iter)
            try:
                self._writer.write_at_exception(Progress(runner.epoch, max(runner.iter, applied)), error)
            except Exception:
                runner.logger.exception('The state at the exception could not be saved.')
        self._writer = None
        self._is_training = False
        if self.store is not None:
            store, self.store = self.store, None
            store.close(reason, error)
