"""Where what the monitor notices goes besides the log: journal, visualizer backends, notifiers, report."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, is_main_process
from mmengine.runner import EpochBasedTrainLoop

from mmckpt.hooks.checkpoint_hook import CheckpointHook
from mmckpt.hooks.runner_adapter import progress_between
from mmckpt.hooks.visualizer_alerts import alert_backends
from mmckpt.monitor import Noticed
from mmckpt.monitor.journal import JOURNAL_NAME, Journal
from mmckpt.monitor.notify import Notice, NotificationCentre, read_channels
from mmckpt.monitor.report import write_atomically
from mmckpt.monitor.run_report import RunReader, to_html
from mmckpt.progress import Progress

REPORT_NAME = 'report.html'
RuleOf = Callable[[str], 'str | None']


class MonitorOutputs:
    """The outputs of one ``TrainingMonitorHook``; none of them stops or holds up a training.

    Args:
        report (bool): Whether ``report.html`` is made when training ends.
        notify (Sequence[dict]): Channels, see :func:`mmckpt.monitor.notify.read_channels`.

    Raises:
        ValueError: If an argument is wrong.
    """

    def __init__(self, report: bool, notify: Sequence[Mapping[str, Any]]) -> None:
        if not isinstance(report, bool):
            raise ValueError(f'report must be True or False, but got {report!r}.')
        self.report = report
        self._channels = read_channels(notify)
        self._centre: NotificationCentre | None = None
        self._journal: Journal | None = None
        self._saver: CheckpointHook | None = None
        self._store: Any = None
        self._index: Any = None
        self._blocked = 0.0
        self._last_iter = 0
        self._measure_next: dict[str, int] = {}
        self._broken: set[str] = set()

    def begin(self, runner: Any) -> bool:
        """Open the journal of this attempt; a second call in one training, after a rollback, returns False."""
        if self._journal is not None:
            return False
        self._centre = NotificationCentre(self._channels, runner.logger)
        self._journal = Journal(Path(runner.log_dir) / JOURNAL_NAME)
        self._last_iter = runner.iter
        self._measure_next = {}
        self._saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        source = Path(runner._load_from).name if runner._resume and runner._load_from else None
        self._note(runner, 'begin', iter=runner.iter, epoch=runner.epoch, max_iters=runner.max_iters,
                   iters_per_epoch=runner.max_iters // runner.max_epochs if by_epoch else None,
                   resumed_from=source)
        return True

    def after_step(self, runner: Any, progress: Progress) -> None:
        """Note what the checkpoint store has done since the last call, and a step back."""
        if progress.iter <= self._last_iter and self._journal is not None:
            self._note(runner, 'rollback', iter=self._last_iter, to_iter=progress.iter - 1,
                       text=f'went back from iteration {self._last_iter} to {progress.iter - 1}')
            # The checkpoint hook has opened another one, for another attempt.
            self._store = None
        self._last_iter = progress.iter
        store = None if self._saver is None else self._saver.store
        if store is None:
            return
        if store is not self._store:
            # After a rollback it is another one, and what it did up to here is in the index that is known.
            self._store, self._blocked = store, 0.0
            self._index = self._index or store.index
        if store.index is not self._index:
            self._note_saves(runner)

    def measured(self, runner: Any, name: str, values: Mapping[str, float], progress: Progress) -> None:
        """Note memory and load of the GPU for the report, ever more rarely in a long run."""
        if name not in ('memory', 'gpu_idle') or not values or progress.iter < self._measure_next.get(name, 0):
            return
        # About 1000 points for each doubling of the run.
        self._measure_next[name] = progress.iter + progress.iter // 1000
        self._note(runner, 'measured', iter=progress.iter, **values)

    def take(self, runner: Any, noticed: Noticed, progress: Progress) -> None:
        """Pass on what was noticed at one step."""
        for announcement in noticed.announcements:
            finding = next((f for f in noticed.findings if announcement.text.startswith(f.message)), None)
            kind = finding.kind if finding else ''
            about = [f.subject for f in noticed.findings if f.kind == kind]
            self._note(runner, 'finding', iter=progress.iter, epoch=progress.epoch, kind=kind,
                       severity=announcement.severity, text=announcement.text, advice=list(announcement.advice),
                       about=about)
            if finding is not None and is_main_process():
                value = finding.magnitude if 0 < finding.magnitude < math.inf else 1.0
                self._try(runner, 'The visualizer', alert_backends, runner.visualizer, kind, value,
                          '\n'.join([announcement.text, *announcement.advice]), progress.iter)
            self._send(runner, announcement.severity, announcement.text, announcement.advice)

    def end(self, runner: Any, rule_of: RuleOf, status: str, reason: str) -> Path | None:
        """Note the end, make the report and wait a little for what is still to be sent.

        Args:
            runner (Runner): The runner.
            rule_of (callable): Tells which values of a metric are better.
            status (str): How the training ended, in words.
            reason (str): The same as one of ``'finished'``, ``'exception'``, ``'signal'`` and ``'monitor'``.

        Returns:
            Path, optional: The report, if one was made.
        """
        if self._journal is None:
            return None
        progress, path = progress_between(runner), None
        severity = {'finished': 'info', 'signal': 'warning'}.get(reason, 'error')
        if self._store is not None and self._store.index is not self._index:
            self._note_saves(runner)
        self._note(runner, 'end', iter=progress.iter, epoch=progress.epoch, status=status, reason=reason)
        if reason != 'monitor' or is_main_process():
            # The monitor stops all ranks together, while an exception may be known to one rank only.
            self._send(runner, severity, f'Training {status} (epoch {progress.epoch}, iteration {progress.iter}).', [])
        if self.report and is_main_process():
            path = self._try(runner, 'The report', _write_report, Path(runner.work_dir), rule_of)
        if self._centre is not None:
            self._centre.close()
        self._journal = self._store = self._index = None
        return path

    def _note_saves(self, runner: Any) -> None:
        before, self._index = self._index.records, self._store.index
        blocked, self._blocked = self._store.blocked_seconds - self._blocked, self._store.blocked_seconds
        for record in sorted(self._index.records.values(), key=lambda r: r.seq):
            known = before.get(record.name)
            if known is None or known.seq != record.seq:
                # Links cost nothing: what training stood still for is the file that was written first.
                self._note(runner, 'saved', name=record.name, iter=record.iter, epoch=record.epoch, size=record.size,
                           roles=list(record.roles), committed=record.time, blocked=blocked or None)
                blocked = 0.0
        for name in before.keys() - self._index.records.keys():
            self._note(runner, 'dropped', name=name, iter=self._last_iter)

    def _note(self, runner: Any, event: str, **facts: Any) -> None:
        if self._journal is not None and is_main_process():
            # A full disk is what people must hear of, and no reason not to tell them.
            self._try(runner, 'The journal', self._journal.note, event, **facts)

    def _send(self, runner: Any, severity: str, text: str, advice: Sequence[str]) -> None:
        rank = get_rank()
        # What went wrong on one rank only is known to nobody else.
        if self._centre is None or (rank and severity != 'error'):
            return
        where = f'{runner.experiment_name} on {socket.gethostname()}' + (f', rank {rank}' if rank else '')
        self._centre.post(Notice(severity, f'[mmckpt] {where}: {text}', tuple(advice)))

    def _try(self, runner: Any, what: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do what may fail for reasons that are no concern of the training; say each failure once."""
        try:
            return action(*args, **kwargs)
        except Exception as error:
            if what not in self._broken:
                self._broken.add(what)
                runner.logger.exception(f'{what} failed, and training goes on: {error!r}')
            return None


def _write_report(work_dir: Path, rule_of: RuleOf) -> Path:
    path = work_dir / REPORT_NAME
    write_atomically(path, to_html([RunReader(work_dir, rule_of).read()]))
    return path
