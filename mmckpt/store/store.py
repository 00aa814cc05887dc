"""The store of a training run: writes, links, completes and prunes checkpoints of one directory."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Literal

from mmckpt.policy.retention import KeepAll, Retention
from mmckpt.progress import Progress
from mmckpt.store.backend import LocalBackend, StorageBackend, temporary_path
from mmckpt.store.catalog import Catalog
from mmckpt.store.committer import Committer
from mmckpt.store.index import Index
from mmckpt.store.mirror import Mirror
from mmckpt.store.outbox import OnEnd, Outbox, Stage, told
from mmckpt.store.pruner import Pruner
from mmckpt.store.record import Record, check_name
from mmckpt.store.session import Session
from mmckpt.store.unit import StagedCheckpoint, stage
from mmckpt.store.view import PathLike, StoreView, read_view
from mmckpt.store.writer import Job


def _count(part: str, name: str, what: str) -> property:
    return property(lambda self: getattr(getattr(self, part), name), doc=what)


class CheckpointStore(StoreView):
    """Writes the checkpoints of one training process into one directory.

    A file counts when its record is in the index, and it gets there only
    after its bytes are on the device. Nothing is removed before what replaces
    it counts. A full or failing disk costs the save, not the run.

    Args:
        directory (str or Path): Where the checkpoints lie.
        retention (Retention, optional): What to keep of this run; earlier runs
            in the directory are never touched. Defaults to None, everything.
        async_save (bool or 'auto'): Write on a background thread; needs
            ``stage``. 'auto' does so where a spare core and the memory for a
            copy of the state exist. Defaults to False.
        on_busy (str): What :meth:`write` does while the file before is still
            being written: ``'wait'`` or ``'skip'``. Defaults to 'wait'.
        max_failures (int): Failed saves in a row after which :class:`SaveError`
            stops the training. Defaults to 3.
        pointer (str or Path, optional): MMEngine's ``last_checkpoint`` file. Defaults to None.
        stage (callable, optional): Copies a state, such as
            ``mmckpt.state.snapshot.Snapshot()``: returns a function that returns
            the copy, which stays as it is until the next call. Defaults to None.
        backend (StorageBackend, optional): The file system. Defaults to the local one.
        mirror (Mirror, optional): Copies what is committed to a remote directory. Defaults to None.
        logger (Logger, optional): Defaults to the logger ``mmckpt``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import tempfile, torch
        >>> store = CheckpointStore(tempfile.mkdtemp())
        >>> store.open()
        >>> store.write('epoch_1.pth', {'w': torch.zeros(3)}, progress=Progress(1, 10), roles=('periodic',))
        True
        >>> store.latest_valid().name
        'epoch_1.pth'
        >>> store.close('finished')
    """

    read = staticmethod(read_view)

    def __init__(self, directory: PathLike, *, retention: Retention | None = None,
                 async_save: bool | Literal['auto'] = False, on_busy: Literal['wait', 'skip'] = 'wait',
                 max_failures: int = 3, pointer: PathLike | None = None, stage: Stage | None = None,
                 backend: StorageBackend | None = None, mirror: Mirror | None = None,
                 logger: logging.Logger | None = None) -> None:
        super().__init__(directory, Index(), logger or logging.getLogger('mmckpt'))
        catalog = Catalog(self.directory, backend or LocalBackend(), self.logger)
        self._outbox = Outbox(async_save, on_busy, stage, self.logger)
        pointer = None if pointer is None else Path(pointer)
        self._pruner = Pruner(catalog, retention or KeepAll(), pointer, self.logger)
        self._committer = Committer(catalog, self._pruner, pointer, max_failures, self.logger)
        self._session = Session(catalog, mirror)
        if mirror is not None:
            catalog.on_commit = lambda index: mirror.update(index, self.retention)

    @property
    def index(self) -> Index:
        """The committed records and the history of attempts."""
        return self._committer.catalog.index

    @property
    def retention(self) -> Retention:
        """What is kept of this run; a new policy counts from the next job on."""
        return self._pruner.retention

    @retention.setter
    def retention(self, policy: Retention) -> None:
        self._pruner.retention = policy

    @property
    def would_skip(self) -> bool:
        """Whether :meth:`write` would leave a state out now, because another one is being written."""
        return self._outbox.would_skip

    blocked_seconds = _count('_outbox', 'blocked_seconds', 'For how long training stood still for :meth:`write`.')
    bytes_written = _count('_committer', 'bytes_written', 'Bytes of all checkpoints written so far; links cost none.')
    files_written = _count('_committer', 'files_written', 'How many were written so far; links do not count.')
    last_write_seconds = _count('_committer', 'last_write_seconds', 'How long the last one took until it was durable.')
    bytes_freed = _count('_pruner', 'bytes_freed', 'Bytes that retention has given back to the disk so far.')
    files_dropped = _count('_pruner', 'files_dropped', 'Files that retention has removed; further names do not count.')

    # Begin and end -----------------------------------------------------------

    def open(self, *, resumed_from: PathLike | None = None, event: dict[str, Any] | None = None) -> None:
        """Take the directory for this process, repair what a crash left, and begin an attempt.

        Args:
            resumed_from (str or Path, optional): The file that training
                resumes from. A file of this directory goes on with its run,
                any other begins a new one, as None does. Defaults to None.
            event (dict, optional): The rollback that the attempt begins with, in
                plain JSON types. Defaults to None.

        Raises:
            LockedError: If another process trains into the directory.
            SaveError: If the directory cannot be written.
        """
        self._session.open(resumed_from, event)
        self._pruner.run = self._session.attempt.run
        self._outbox.begin()
        atexit.register(self._close_at_exit)

    def close(self, reason: str, error: BaseException | None = None) -> None:
        """Finish what is queued, note how the attempt ended, upload, and give the directory back.

        The directory stays taken until the upload is done, or given up after 10
        minutes (15 s where the training was stopped): another training would
        change files while they travel, and two would write the remote index.

        Args:
            reason (str): As in :class:`mmckpt.store.index.Attempt`.
            error (BaseException, optional): What ended the training; an error of
                the writer is then logged instead of raised. Defaults to None.
        """
        if not self._session.is_open:
            return
        atexit.unregister(self._close_at_exit)
        try:
            self._outbox.join()
        except BaseException:
            self._session.abandon()
            raise
        self._session.close(reason)
        try:
            self._outbox.raise_error()
        except Exception:
            if error is None:
                raise
            self.logger.exception('The last checkpoint could not be written.')

    def wait(self) -> None:
        """Wait until everything is durable; raise an error of the writer."""
        self.join()
        self._outbox.raise_error()

    def join(self) -> None:
        """Wait until everything is durable or lost; an error of the writer is kept for :meth:`wait`."""
        self._outbox.join()

    # Jobs --------------------------------------------------------------------

    def write(self, name: str, state: Any, *, progress: Progress, roles: Sequence[str],
              scores: Mapping[str, float] | None = None, metrics: Mapping[str, float] | None = None,
              val_pending: bool = False, point_last: bool = True,
              rules: Mapping[str, str] | None = None, on_end: OnEnd | None = None) -> bool:
        """Write a state; in the background it is copied first, and may change at once.

        Args:
            name (str): File name in the directory; an older file of that name
                is replaced, never overwritten.
            state (Any): Nested dicts, lists and tuples of tensors and picklable values, or
                what :meth:`stage_checkpoint` returned, once it is written.
            progress (Progress): Completed counts.
            roles (Sequence[str]): What it is kept for.
            scores (Mapping[str, float], optional): Score of each best role. Defaults to None.
            metrics (Mapping[str, float], optional): Metrics at its step. Defaults to None.
            val_pending (bool): Whether a validation is due at this step. Defaults to False.
            point_last (bool): Whether ``last_checkpoint`` shall name it. Defaults to True.
            rules (Mapping[str, str], optional): Which values of each score are better. Defaults to None.
            on_end (callable, optional): Called once, on whichever thread, with whether
                the file is committed. Defaults to None.

        Returns:
            bool: False if it was skipped or failed, which the log explains. A
                write in the background returns True when it is on its way.

        Raises:
            SaveError: After too many failures in a row, or if a value cannot be pickled.
            Exception: What went wrong in the background since the last call.
        """
        draft = self._session.draft(name, progress, roles, scores, metrics, rules, val_pending)
        return self._outbox.put(name, state, lambda now: self._committer.write(now, draft, point_last), on_end)

    def stage_checkpoint(self, name: str, skip: bool = False) -> StagedCheckpoint:
        """Choose a hidden path for a file or directory that others write; :meth:`write` takes it as the state then.

        It is to be handed over also if it says that nothing shall be written.

        Args:
            name (str): As in :meth:`write`.
            skip (bool): Whether it is left out in any case. Defaults to False, only if :meth:`write` would do so.
        """
        check_name(name)
        target = self.directory / name
        if skip or self.would_skip:
            return StagedCheckpoint(temporary_path(target), is_skipped=True)
        self._submit(lambda: self._pruner.make_room_for_staged(name))
        # There is room only then; and what is still being made durable may have the same hidden path.
        self._outbox.join()
        return stage(self._committer.catalog.backend, target)

    def link(self, source: str, name: str, *, roles: Sequence[str], scores: Mapping[str, float] | None = None,
             metrics: Mapping[str, float] | None = None, point_last: bool = False,
             rules: Mapping[str, str] | None = None, on_end: OnEnd | None = None) -> None:
        """Give a file one more name once it is committed; a copy where there are no hard links.

        Args:
            source (str): Name of a file that was written, or is being written.
            name (str): The name to give; ``source`` itself only gains the roles.
            roles (Sequence[str]): What this name is kept for.
            scores (Mapping[str, float], optional): Score of each best role. Defaults to None.
            metrics (Mapping[str, float], optional): Added to those of the source. Defaults to None.
            point_last (bool): Whether ``last_checkpoint`` shall name it. Defaults to False.
            rules (Mapping[str, str], optional): Which values of each score are better. Defaults to None.
            on_end (callable, optional): Called once, on whichever thread, with whether
                the file is committed. Defaults to None.
        """
        check_name(source)
        draft = self._session.draft(name, Progress(0, 0), roles, scores, metrics, rules)
        self._submit(told(lambda: self._committer.link(source, draft, point_last), on_end))

    def amend(self, names: Sequence[str], *, metrics: Mapping[str, float] | None = None,
              post_validation: Callable[[], dict[str, Any]] | dict[str, Any] | None = None,
              val_pending: bool | None = None) -> None:
        """Complete the records of files after a validation, in one commit; the files are not touched.

        Args:
            names (Sequence[str]): The files; those that were not written are left out.
            metrics (Mapping[str, float], optional): Metrics of the validation. Defaults to None.
            post_validation (dict or callable, optional): What it changed, in plain JSON
                types; or what returns it, called when the files before are committed
                or lost. Defaults to None.
            val_pending (bool, optional): Whether it is still due. Defaults to None.
        """
        given = dict(metrics=None if metrics is None else dict(metrics), post_validation=post_validation,
                     val_pending=val_pending)
        self._submit(lambda: self._committer.amend(list(names), given))

    def prune(self) -> list[Record]:
        """Drop what the policy does not keep of this run; return the records."""
        dropped: list[Record] = []
        self._submit(lambda: dropped.extend(self._pruner.prune()))
        self.wait()
        return dropped

    def rewind(self, name: str) -> None:
        """Make a file of this run the one to resume from, because training goes back to it.

        What was saved after its step is dropped, unless it is a best.

        Args:
            name (str): The file.

        Raises:
            OSError: If the index cannot be written.
        """
        self._submit(lambda: self._committer.rewind(name))
        self.wait()

    def set_aside(self, record: Record) -> None:
        """Rename a file that did not verify to ``<name>.corrupt`` and forget its record."""
        self._submit(lambda: self._committer.catalog.set_aside(record))

    def check_run_fits(self, expected_size: int, files_to_keep: int | None = None) -> bool:
        """Tell the user before training starts if its checkpoints will not fit on the disk.

        Args:
            expected_size (int): Bytes of one checkpoint, see :func:`mmckpt.store.space.estimate_bytes`.
            files_to_keep (int, optional): Checkpoints that will be kept. Defaults
                to None, the bound of the retention policy if it has one.

        Returns:
            bool: False if a warning was logged.
        """
        files = self.retention.most_files() if files_to_keep is None else files_to_keep
        return files is None or self._pruner.run_fits(expected_size, files)

    # Inside ------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        self._session.check_open()
        self._outbox.submit(job)

    def _close_at_exit(self) -> None:
        # A forked child has neither the lock nor the writer.
        session = self._session
        if session.is_open and session.attempt.pid == os.getpid() and self.directory.is_dir():
            self.close('exit', error=SystemExit())
