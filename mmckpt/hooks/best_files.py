"""Names of best checkpoints, and how their files come to be."""

from __future__ import annotations

import os.path as osp
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmckpt.hooks.best_metrics import BestMetrics, Choice
from mmckpt.hooks.claims import Claim
from mmckpt.hooks.periodic_files import file_of, point_last
from mmckpt.hooks.runner_adapter import broadcast_object, progress_between
from mmckpt.hooks.step_writer import Judged, StepWriter
from mmckpt.policy.selection import (
    FileTemplate,
    Selection,
    safe_characters,
    scalar_metrics,
    shortened,
    told_apart,
)
from mmckpt.progress import Progress

# Roles and step of a file.
Owner = tuple[frozenset[str], Progress]


class BestFiles:
    """Gives the files of a step their names as bests, for a ``CheckpointHook``.

    Args:
        hook (CheckpointHook): The hook.
        bests (BestMetrics): What is best so far.
    """

    def __init__(self, hook: Any, bests: BestMetrics) -> None:
        self.hook = hook
        self.bests = bests
        self._config: dict[str, Any] | None = None

    def save(self, runner: Any, writer: StepWriter, metrics: Mapping[str, Any]) -> None:
        """Judge a validation and save what it makes a best; call it on every rank."""
        # A score must not be compared with that of a file that was lost.
        writer.claims.settle_bests()
        progress = progress_between(runner)
        chosen = self.bests.judge(runner, metrics, progress)
        if writer.store is not None:
            # `auto` has its name only now.
            writer.store.retention = self.hook.retention()
        if not chosen:
            return
        if not all(writer.has(progress, choice.selection.save_optimizer) for choice in chosen):
            writer.claims.settle_before_write()
        step_file = file_of(self.hook, progress)
        names = self._names(runner, writer, chosen, metrics, progress, step_file)
        kept = [self.bests.keep(runner, writer.claims, choice, progress, name) for choice, name in zip(chosen, names)]
        last = self._claim_last(runner, writer, chosen, progress, step_file)
        failed = set()
        for choice, name, claim in zip(chosen, names, kept):
            full = writer.is_full(choice.selection.save_optimizer)
            # What could not be written once is not tried again under each name: a step is one failure.
            if full in failed:
                claim.end(False)
            elif not writer.place(name, progress, roles=(f'best:{choice.selection.name}',), judged=judged([choice]),
                                  save_optimizer=full, claims=[claim]):
                failed.add(full)
                # The state that is captured next must not hold it.
                writer.claims.settle()
            elif claim.committed is not False:
                runner.logger.info(self._line(choice, name, progress))
        if last is not None and writer.has(progress):
            writer.place(step_file, progress, roles=tuple(f'best:{c.selection.name}' for c in chosen),
                         judged=judged(chosen), point_last=True, claims=[last])
        elif last is not None:
            last.end(False)
        writer.claims.settle()

    def _claim_last(self, runner: Any, writer: StepWriter, chosen: Sequence[Choice], progress: Progress,
                    step_file: str) -> Claim | None:
        """As with stock, the step of a best has a file under its plain name too, once there are periodic files."""
        last = self.hook.last_ckpt
        if last is None or osp.basename(last) == step_file or writer.has(progress):
            return None
        if all(writer.is_full(c.selection.save_optimizer) != writer.is_full(None) for c in chosen):
            return None
        return point_last(self.hook, runner, writer.claims, progress)

    def _names(self, runner: Any, writer: StepWriter, chosen: Sequence[Choice], metrics: Mapping[str, Any],
               progress: Progress, step_file: str) -> list[str]:
        """Name the file of each choice; a wrong template must fail on all ranks alike."""
        values = {**scalar_metrics(metrics), 'epoch': progress.epoch, 'iter': progress.iter, 'step': progress.iter}
        wished = [self._wish(runner, choice, values, step_file) for choice in chosen]
        owners = self._owners(writer)
        owners[step_file] = frozenset({'periodic'}), progress
        names = []
        for choice, name in zip(chosen, wished):
            ours = frozenset({f'best:{choice.selection.name}'}), progress
            taken = [other for other, owner in owners.items() if not _is_free_for(choice.selection, ours, owner)]
            if choice.selection.filename is not None and writer.store is not None:
                # A file of the user's own, such as a copy, is not ours to replace.
                taken += [path.name for path in writer.store.directory.glob('*.pth')
                          if path.name not in owners and writer.store.find(path.name) is None]
            if choice.selection.filename is not None and _is_of_a_step(name, self.hook.filename_tmpl):
                # The periodic file of another step, which may come later, would replace it.
                taken.append(name)
            names.append(told_apart(name, taken))
            owners[names[-1]] = ours
        return broadcast_object(names)

    def _owners(self, writer: StepWriter) -> dict[str, Owner]:
        """What each name of this run is kept for, and its step; only rank 0 knows the earlier ones."""
        records = [] if writer.store is None else writer.store.records_of_run()
        return {record.name: (frozenset(record.roles), Progress(record.epoch, record.iter)) for record in records}

    def _wish(self, runner: Any, choice: Choice, values: Mapping[str, Any], step_file: str) -> str:
        selection = choice.selection
        if selection.filename is None:
            return safe_characters(f'best_{shortened(selection.name)}_{step_file}')
        template = FileTemplate(selection.filename)
        if self._config is None:
            self._config = flat_config(runner.cfg)
        shown = {'score': choice.score, 'name': selection.name, **values}
        if 'lr' in template.fields:
            shown['lr'] = _learning_rate(runner)
        seen = [field for field in template.fields if self.bests.has_shown(field)]
        name = template.name(shown, seen, self._config)
        self.bests.show(field for field in template.fields if field in values)
        return name

    def _line(self, choice: Choice, name: str, progress: Progress) -> str:
        hook, selection = self.hook, choice.selection
        smoothed = '' if selection.smooth is None else f' (smoothed; {choice.raw:0.4f} in this validation)'
        at = f'at {progress.count(hook.by_epoch)} {"epoch" if hook.by_epoch else "iter"} is saved to {name}.'
        if choice.is_best:
            return f'The best checkpoint with {choice.score:0.4f} {selection.name}{smoothed} {at}'
        which = 'A checkpoint' if selection.keep == -1 else f'One of the {selection.keep} best checkpoints'
        return f'{which} with {choice.score:0.4f} {selection.name}{smoothed} {at}'


def judged(chosen: Sequence[Choice]) -> Judged:
    """Return scores and rules of choices, as records hold them."""
    return dict(scores={c.selection.name: c.score for c in chosen},
                rules={c.selection.name: c.selection.rule for c in chosen})


def flat_config(cfg: Any) -> dict[str, Any]:
    """Return the plain values of a config by dotted path.

    Example:
        >>> flat_config(dict(model=dict(depth=50, heads=[dict(type='Head')])))
        {'model.depth': 50, 'model.heads.0.type': 'Head'}
    """
    flat: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(
            value, (list, tuple)) else None
        if items is None:
            if isinstance(value, (str, int, float, bool)):
                flat[path] = value
            return
        for key, item in items:
            walk(f'{path}.{key}' if path else str(key), item)

    walk('', dict(cfg.items()))
    return flat


def _is_free_for(selection: Selection, ours: Owner, owner: Owner) -> bool:
    """Whether a file may be replaced: by the same step trained once more, or by the only best."""
    return owner == ours or (owner[0] == ours[0] and selection.keep == 1)


def _is_of_a_step(name: str, template: str) -> bool:
    """Whether a name is that of some periodic file."""
    return any(template.format(int(number)) == name for number in re.findall(r'\d+', name))


def _learning_rate(runner: Any) -> float:
    rates = runner.optim_wrapper.get_lr()
    return float(next(iter(rates.values()))[0])
