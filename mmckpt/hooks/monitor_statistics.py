"""Writes ``training_stats.txt`` and ``.json``, with what the checkpoint store knows of the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmckpt.hooks.checkpoint_hook import CheckpointHook
from mmckpt.monitor.report import to_json, to_text, write_atomically


class StatisticsFiles:
    """The two files of one training; use it on rank 0 only."""

    def __init__(self) -> None:
        self._stores: list[Any] = []

    def write(self, runner: Any, report: Mapping[str, Any]) -> Path:
        """Replace both files.

        Args:
            runner (Runner): The runner.
            report (dict): What :func:`mmckpt.monitor.report.to_text` takes, but
                for ``work_dir`` and ``written_at``.

        Returns:
            Path: The text.
        """
        whole = {'version': 1, 'work_dir': str(runner.work_dir), 'written_at': time.strftime('%Y-%m-%d %H:%M:%S'),
                 **report, **self._saves(runner)}
        path = Path(runner.work_dir) / 'training_stats.txt'
        write_atomically(path, to_text(whole))
        write_atomically(path.with_suffix('.json'), to_json(whole) + '\n')
        return path

    def _saves(self, runner: Any) -> dict[str, Any]:
        """Saves of this process and attempts of the run; None and [] with a checkpoint hook that is not ours."""
        for hook in runner.hooks:
            # Kept, since the hook lets go of it when training ends, and opens another one after a rollback.
            if isinstance(hook, CheckpointHook) and hook.store is not None and hook.store not in self._stores:
                self._stores.append(hook.store)
        if not self._stores:
            return {'saves': None, 'attempts': []}
        store = self._stores[-1]
        saves = {'count': sum(s.files_written for s in self._stores),
                 'bytes': sum(s.bytes_written for s in self._stores),
                 'blocked_seconds': round(sum(s.blocked_seconds for s in self._stores), 3),
                 'bytes_freed': sum(s.bytes_freed for s in self._stores)}
        attempts = [{'attempt': a.attempt, 'run': a.run, 'host': a.host, 'start': a.start, 'stop': a.stop, 'why': a.why}
                    for a in store.index.attempts]
        return {'saves': saves, 'attempts': attempts}
