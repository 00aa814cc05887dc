"""The best score of each monitored metric, under MMEngine's attribute and hub names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmckpt.errors import MetricNotFoundError, near_matches
from mmckpt.policy.selection import as_score, is_better


class BestMetrics:
    """Tracks the best of each metric for a ``CheckpointHook``.

    MMEngine keeps scores and paths in the message hub (``best_score`` and
    ``best_ckpt`` for one metric, ``best_score_<metric>`` for several) and on
    the hook; other tools read them there, so this class keeps no copy.

    Args:
        hook (CheckpointHook): The hook whose metrics these are.
    """

    def __init__(self, hook: Any) -> None:
        self.hook = hook
        self._seen: set[str] = set()

    @staticmethod
    def scalars(metrics: Mapping[str, Any] | None) -> dict[str, float]:
        """Keep the metrics that are numbers, as floats."""
        scores = {}
        for name, value in (metrics or {}).items():
            try:
                score = as_score(value)
            except (TypeError, ValueError):
                continue
            if score is not None:
                scores[name] = score
        return scores

    def rules(self) -> list[tuple[str, str]]:
        """Metric and rule of each monitored metric that is known by now."""
        if not self.hook.save_best:
            return []
        return [(m, r) for m, r in zip(self.hook.key_indicators, self.hook.rules) if m != 'auto']

    def path(self, metric: str) -> str | None:
        """The best file of a metric, or None."""
        if len(self.hook.key_indicators) == 1:
            return self.hook.best_ckpt_path
        return self.hook.best_ckpt_path_dict[metric]

    def resume(self, runner: Any) -> None:
        """Take the paths of earlier bests from the message hub."""
        if not self.hook.save_best:
            return
        for metric in self.hook.key_indicators:
            self._set_path(metric, runner.message_hub.runtime_info.get(self._key('best_ckpt', metric)))

    def resume_from_store(self, runner: Any, records: list[Any]) -> None:
        """Let a best that the work directory holds count, whatever file the run resumes from.

        A resume from an old file, or from a best one, must not lose a better
        checkpoint of the same run that was written after it.

        Args:
            runner (Runner): The runner, with its message hub restored.
            records (list[Record]): Records of this run.
        """
        for metric, rule in self.rules():
            role = f'best:{metric}'
            for record in records:
                score = record.scores.get(metric) if role in record.roles else None
                if score is not None and record.name.startswith('best_') and is_better(
                        score, self._score(runner, metric, rule), rule):
                    self.note(runner, metric, score, record.name)

    def improved(self, runner: Any, metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return the metrics of which this validation is the best so far, with their scores.

        Raises:
            MetricNotFoundError: If a metric is not there and never was.
        """
        hook = self.hook
        if 'auto' in hook.key_indicators:
            hook._init_rule(hook.rules, [next(iter(metrics))])
        better = []
        for metric, rule in self.rules():
            score = self._judge(runner, metric, metrics)
            if score is not None and is_better(score, self._score(runner, metric, rule), rule):
                better.append((metric, score))
        return better

    def note(self, runner: Any, metric: str, score: float, name: str) -> None:
        """Remember a new best in the hub and on the hook."""
        path = self.hook.file_backend.join_path(self.hook.out_dir, name)
        runner.message_hub.update_info(self._key('best_score', metric), score)
        runner.message_hub.update_info(self._key('best_ckpt', metric), path)
        self._set_path(metric, path)

    def _judge(self, runner: Any, metric: str, metrics: Mapping[str, Any]) -> float | None:
        if metric not in metrics:
            hint = f'save_best={metric!r} is not among the metrics of this validation. {near_matches(metric, metrics)}'
            if metric not in self._seen:
                raise MetricNotFoundError(f'{hint} Set save_best to one of them, or add a metric that gives it.')
            runner.logger.warning(f'{hint} It was there before; this validation is left out.')
            return None
        self._seen.add(metric)
        score = as_score(metrics[metric])
        if score is None or math.isnan(score):
            runner.logger.warning(f'{metric} is {metrics[metric]} in this validation: it cannot be the best, and '
                                  'the best checkpoint stays as it is.')
            return None
        return score

    def _score(self, runner: Any, metric: str, rule: str) -> float:
        worst = self.hook.init_value_map[rule]
        return float(runner.message_hub.runtime_info.get(self._key('best_score', metric), worst))

    def _key(self, kind: str, metric: str) -> str:
        return kind if len(self.hook.key_indicators) == 1 else f'{kind}_{metric}'

    def _set_path(self, metric: str, path: str | None) -> None:
        if len(self.hook.key_indicators) == 1:
            self.hook.best_ckpt_path = path
        else:
            self.hook.best_ckpt_path_dict[metric] = path
