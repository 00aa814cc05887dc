"""Several checkpoints of one run, evaluated one after the other by its config."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from mmckpt.cli.config import build_runner, configured_hooks, merge_options, read_config, type_name
from mmckpt.cli.console import print_table, say, shown_path
from mmckpt.cli.launch import process_group
from mmckpt.cli.test import check_weights
from mmckpt.errors import IncompatibleCheckpointError, UsageError, near_matches
from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.model_building import config_of_checkpoint
from mmckpt.policy.selection import Scorer, Selection, asks_for_a_score, infer_rule, is_better, parse_selection
from mmckpt.store import load_checkpoint

_PARTS = ('dataloader', 'evaluator', 'cfg')


@dataclass(frozen=True)
class Result:
    """What a checkpoint reached.

    Args:
        path (Path): The file.
        epoch (int): Completed epochs, 0 if the file does not say.
        metrics (dict): Its metrics.
    """

    path: Path
    epoch: int
    metrics: dict[str, float]


class CheckpointEvaluator:
    """One Runner that evaluates file after file; nothing is written into the run's directory.

    Args:
        cfg (Config): The config; changed in place.
        on (str, optional): ``'test'`` or ``'val'``: the set to evaluate on.
            Defaults to None: the test set, or the validation set where there is none.

    Raises:
        UsageError: If the config has no such set.
    """

    def __init__(self, cfg: Config, on: str | None = None) -> None:
        there = [name for name in ('test', 'val') if all(cfg.get(f'{name}_{part}') is not None for part in _PARTS)]
        if not there or (on is not None and on not in there):
            raise UsageError(f'the config has no {on or "test or validation"} set: it needs {on or "test"}_dataloader, '
                             f'{on or "test"}_evaluator and {on or "test"}_cfg.')
        self.on = on or there[0]
        self.selections = _save_best(cfg)
        cfg.resume, cfg.load_from = False, None
        # They judge a training: stock's would save the best of these evaluations.
        cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
        cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if type_name(h) != 'EarlyStoppingHook']
        if cfg.get('visualizer') is not None:
            cfg.visualizer.pop('vis_backends', None)
        self.cfg = cfg
        self.runner = build_runner(cfg)

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the metrics of a checkpoint."""
        runner = self.runner
        check_weights(unwrapped_model(runner), str(path), self.cfg.pretty_text)
        # A Runner loads once; each of its evaluations is a run of its own to its hooks.
        runner._load_from, runner._has_loaded = str(path), False
        metrics = runner.test() if self.on == 'test' else runner.val()
        return {name: float(value) for name, value in metrics.items()}

    def results(self, paths: Sequence[Path]) -> list[Result]:
        """Evaluate some files, in their order."""
        results = []
        for number, path in enumerate(paths, start=1):
            say(f'{self.on} set, checkpoint {number} of {len(paths)}: {path.name}')
            meta = load_checkpoint(path, mmap=True).get('meta') or {}
            results.append(Result(path, int(meta.get('epoch') or 0), self(path)))
        return results


@contextmanager
def evaluation_config(work_dir: Path, config: str | None, options: dict[str, Any] | None, launcher: str,
                      any_checkpoint: Path) -> Iterator[Config]:
    """Give the config of a run, inside its process group and with a work directory that is thrown away.

    Args:
        work_dir (Path): The directory of the run.
        config (str, optional): A config file; None takes the one that MMEngine
            left in the directory, or else the text in a checkpoint.
        options (dict, optional): ``--cfg-options``.
        launcher (str): As in training.
        any_checkpoint (Path): A checkpoint of the run.
    """
    cfg = read_config(config, options) if config is not None else _config_of_run(work_dir, options, any_checkpoint)
    with process_group(cfg, launcher), tempfile.TemporaryDirectory(prefix='mmckpt-evaluate-') as directory:
        cfg.work_dir = directory
        yield cfg


def deciding_selection(save_best: Sequence[Selection], metric: str | None, rule: str | None,
                       known: Sequence[str]) -> Selection:
    """Return by what the winner is chosen.

    Args:
        save_best (list[Selection]): Those of the config decide where no metric is given.
        metric (str, optional): A metric.
        rule (str, optional): ``'greater'`` or ``'less'``; inferred where None.
        known (Sequence[str]): The metrics that there are.

    Raises:
        UsageError: If the metric does not exist or its rule cannot be told.
    """
    if metric is not None and metric not in known:
        raise UsageError(f'--metric {metric}: it is not among the metrics. {near_matches(metric, known)}')
    candidates = [Selection(metric, metric=metric, rule=rule)] if metric is not None else [
        *save_best, *(Selection(name, metric=name, rule=rule) for name in known)]
    for selection in candidates:
        try:
            if set(selection.needs) <= set(known):
                return selection.with_rule()
        except ValueError:
            continue
    raise UsageError('it cannot be told which checkpoint is best: pass --metric METRIC --rule greater|less. '
                     f'{near_matches(metric or "", known)}')


def best_result(results: Sequence[Result], selection: Selection) -> Result | None:
    """Return the best result; of equal ones the first; None if none has a score."""
    scorer, best = Scorer(selection), None
    rule = infer_rule(selection.name, selection.rule)
    top: float | None = None
    for result in results:
        score = scorer.raw(result.metrics)
        if is_better(score, top, rule):
            best, top = result, score
    return best


def report(title: str, results: Sequence[Result], selection: Selection, names: Mapping[Path, str],
           out: str | None) -> Result | None:
    """Print the table of some results with the winner; write it as JSON where asked.

    Args:
        title (str): A line above the table.
        results (list[Result]): What was evaluated.
        selection (Selection): By what the winner is chosen.
        names (Mapping[Path, str]): What each file was asked for as.
        out (str, optional): A ``.json`` file.

    Returns:
        Result, optional: The winner.
    """
    winner = best_result(results, selection)
    if not is_main_process():
        return winner
    metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
    print_table(title, ['', 'checkpoint', 'asked for as', 'epoch', *metrics], [
        ['*' if result is winner else '', result.path.name, names.get(result.path, ''), str(result.epoch or ''),
         *(f'{result.metrics[name]:.4f}' if name in result.metrics else '' for name in metrics)]
        for result in results])
    if winner is None:
        say(f'no checkpoint has a {selection.name} that is a number')
    else:
        say(f'the best by {selection.name} ({selection.rule} is better): {shown_path(winner.path)}')
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(dict(
            by=selection.name, rule=selection.rule, winner=None if winner is None else str(winner.path),
            results=[dict(path=str(r.path), asked_for_as=names.get(r.path, ''), epoch=r.epoch, metrics=r.metrics)
                     for r in results]), indent=2) + '\n')
        say(f'written to {out}')
    return winner


def _config_of_run(work_dir: Path, options: dict[str, Any] | None, any_checkpoint: Path) -> Config:
    files = sorted(work_dir.glob('*.py'))
    if len(files) == 1:
        return read_config(str(files[0]), options)
    text = (load_checkpoint(any_checkpoint, mmap=True).get('meta') or {}).get('cfg')
    if not text:
        raise UsageError(f'{work_dir} holds {len(files)} config files and {any_checkpoint.name} none: '
                         'pass --config FILE.')
    say(f'takes the config that is stored in {any_checkpoint.name}')
    try:
        cfg = Config(config_of_checkpoint(text))
    except (IncompatibleCheckpointError, ImportError, ValueError, TypeError) as error:
        raise UsageError(f'the config that is stored in {any_checkpoint.name} cannot be used: {error} Pass --config '
                         'FILE.') from error
    if options:
        merge_options(cfg, options)
    return cfg


def _save_best(cfg: Config) -> list[Selection]:
    found = []
    for hook in configured_hooks(cfg):
        asked = hook.get('save_best') if isinstance(hook, dict) else None
        for one in asked if isinstance(asked, (list, tuple)) else [asked]:
            if isinstance(one, str) or asks_for_a_score(one):
                selection = parse_selection(one)
                rule = hook.get('rule') if isinstance(hook.get('rule'), str) else None
                found.append(selection if selection.rule else replace(selection, rule=rule))
    return found


