"""The bests of each selection of ``save_best``, under MMEngine's attribute and hub names."""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log

from mmckpt.hooks.claims import Claim, Claims, hub_restorer
from mmckpt.policy.selection import Scorer, Selection, TopScores, is_better, scalar_metrics
from mmckpt.progress import Progress

_HUB = ('best_score', 'best_ckpt')


@dataclass(frozen=True)
class Choice:
    """A step that is kept for its score.

    Args:
        selection (Selection): By what it was chosen.
        score (float): Its score, combined and smoothed.
        raw (float): The score before smoothing.
        is_best (bool): Whether it is the best so far, or only one of the best ``keep``.
    """

    selection: Selection
    score: float
    raw: float
    is_best: bool


class BestMetrics:
    """Tracks the bests of each selection for a ``CheckpointHook``.

    MMEngine keeps scores and paths in the message hub (``best_score`` and
    ``best_ckpt`` for one metric, ``best_score_<metric>`` for several) and on
    the hook; other tools read them there, so this class keeps no copy. The
    other scores of a top k come from the records of the store.

    Args:
        hook (CheckpointHook): The hook whose bests these are.
    """

    scalars = staticmethod(scalar_metrics)

    def __init__(self, hook: Any) -> None:
        self.hook = hook
        self._scorers: dict[str, Scorer] = {}
        self._tops: dict[str, TopScores] = {}
        self._shown: set[str] = set()

    @property
    def selections(self) -> list[Selection]:
        """The selections whose names and rules are known by now."""
        return [s for s in self.hook.selections if s.rule is not None] if self.hook.save_best else []

    def path(self, name: str) -> str | None:
        """The best file of a selection, or None."""
        if len(self.hook.key_indicators) == 1:
            return self.hook.best_ckpt_path
        return self.hook.best_ckpt_path_dict[name]

    def resume(self, runner: Any) -> None:
        """Take the paths of earlier bests from the message hub."""
        self._tops = {}
        if not self.hook.save_best:
            return
        for name in self.hook.key_indicators:
            self._set_path(name, runner.message_hub.runtime_info.get(self._key('best_ckpt', name)))

    def resume_from_store(self, runner: Any, records: Sequence[Any]) -> None:
        """Let the bests that the work directory holds count, whatever file the run resumes from.

        A resume from an old file, or from a best one, must not lose a better
        checkpoint of the same run that was written after it.

        Args:
            runner (Runner): The runner, with its message hub restored.
            records (list[Record]): Records of this run.
        """
        for selection in self.selections:
            role, top = f'best:{selection.name}', self._top(selection)
            for record in records:
                score = record.scores.get(selection.name) if role in record.roles else None
                if not is_better(score, None, selection.rule):
                    continue
                top = top.adding((record.epoch, record.iter), score)
                if is_better(score, self._best_score(runner, selection), selection.rule):
                    self.note(runner, selection.name, score, record.name)
            self._tops[selection.name] = top

    def judge(self, runner: Any, metrics: Mapping[str, Any], progress: Progress) -> list[Choice]:
        """Return the selections for which this step is kept.

        Raises:
            MetricNotFoundError: If a metric is not there and never was.
        """
        hook = self.hook
        if 'auto' in hook.key_indicators:
            hook._init_rule(hook.rules, [next(iter(metrics))])
        chosen = []
        for selection in self.selections:
            scorer = self._scorer(selection)
            raw, score = scorer.raw(metrics), scorer(metrics)
            if raw is None or score is None:
                runner.logger.warning(f'save_best: {scorer.reason}: it cannot be the best, and the best '
                                      'checkpoint stays as it is.')
            elif progress.count(hook.by_epoch) >= selection.begin and self._takes(runner, selection, progress, score):
                best = is_better(score, self._best_score(runner, selection), selection.rule)
                chosen.append(Choice(selection, score, raw, best))
        return chosen

    def keep(self, runner: Any, claims: Claims, choice: Choice, progress: Progress, name: str) -> Claim:
        """Remember that a step is kept, in the hub too if it is the best; until its file is lost."""
        selection = choice.selection.name
        top, path = self._top(choice.selection), self.path(selection)
        keys = [self._key(kind, selection) for kind in _HUB]
        restore_hub = hub_restorer(runner.message_hub, *keys)

        def take_back() -> None:
            self._tops[selection] = top
            restore_hub()
            self._set_path(selection, path)
            runner.logger.warning(f'{name} was not saved: '
                                  + (f'no checkpoint is the best by {selection}.' if path is None else
                                     f'the best by {selection} is {osp.basename(path)}, as before.'))

        claim = claims.add(take_back, *keys, is_best=True)
        self._tops[selection] = top.adding((progress.epoch, progress.iter), choice.score)
        if choice.is_best:
            self.note(runner, selection, choice.score, name)
        return claim

    def note(self, runner: Any, name: str, score: float, file: str) -> None:
        """Remember a new best in the hub and on the hook."""
        path = self.hook.file_backend.join_path(self.hook.out_dir, file)
        runner.message_hub.update_info(self._key('best_score', name), score)
        runner.message_hub.update_info(self._key('best_ckpt', name), path)
        self._set_path(name, path)

    def has_shown(self, metric: str) -> bool:
        """Whether the name of an earlier best has shown a metric."""
        return metric in self._shown

    def show(self, metrics: Iterable[str]) -> None:
        """Remember the metrics that names show; later validations may leave them out."""
        self._shown.update(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return what the scores of later validations depend on."""
        return dict(version=1, shown=sorted(self._shown), scores={
            s.name: dict(self._scorer(s).state_dict(), of=s.expr or s.metric) for s in self.selections})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run left off; a selection that means something else now starts anew."""
        self._shown = set(state['shown'])
        for selection in self.selections:
            saved = dict(state['scores'].get(selection.name) or {})
            if not saved:
                continue
            if saved.pop('of') != (selection.expr or selection.metric):
                print_log(f'save_best: {selection.name!r} is another score than in the checkpoint; its best score '
                          'counts on, its smoothing starts anew.', 'current', logging.WARNING)
                continue
            self._scorer(selection).load_state_dict(saved)

    def _takes(self, runner: Any, selection: Selection, progress: Progress, score: float) -> bool:
        if not self._top(selection).takes((progress.epoch, progress.iter), score):
            return False
        # The best of a run that came from another directory has no record here.
        return selection.keep != 1 or is_better(
            score, self._best_score(runner, selection), selection.rule, selection.min_delta)

    def _best_score(self, runner: Any, selection: Selection) -> float | None:
        value = runner.message_hub.runtime_info.get(self._key('best_score', selection.name))
        return None if value is None else float(value)

    def _scorer(self, selection: Selection) -> Scorer:
        return self._scorers.setdefault(selection.name, Scorer(selection))

    def _top(self, selection: Selection) -> TopScores:
        empty = TopScores(selection.rule, selection.keep, selection.min_delta, {})
        return self._tops.setdefault(selection.name, empty)

    def _key(self, kind: str, name: str) -> str:
        return kind if len(self.hook.key_indicators) == 1 else f'{kind}_{name}'

    def _set_path(self, name: str, path: str | None) -> None:
        if len(self.hook.key_indicators) == 1:
            self.hook.best_ckpt_path = path
        else:
            self.hook.best_ckpt_path_dict[name] = path
