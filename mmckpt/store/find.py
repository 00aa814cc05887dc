"""Checkpoints asked for by what they are: ``latest``, ``best:AP``, ``top:AP:2``, ``epoch:10``, ``iter:5000``."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmckpt.errors import CheckpointNotFoundError, CorruptCheckpointError, near_matches
from mmckpt.policy.retention import KeepBest
from mmckpt.policy.selection import infer_rule
from mmckpt.store.rebuild import role_from_name
from mmckpt.store.record import FOREIGN, PERIODIC, Record, newest_first
from mmckpt.store.view import StoreView, read_view

_BEST = 'best:'
_KINDS = re.compile(r'(latest|last|best(:.+)?|top:.+:[1-9]\d*|(epoch|iter):\d+)\Z')
FORMS = 'latest, last, best, best:METRIC, top:METRIC:N, epoch:N, iter:N'


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that verifies.

    Args:
        path (Path): The file.
        record (Record): What is known of it.
        note (str): What the user should know: that it is not quite what was asked for, and why. ``''`` if it is.
    """

    path: Path
    record: Record
    note: str


def is_spec(text: str) -> bool:
    """Whether a text asks for a checkpoint by what it is.

    Example:
        >>> is_spec('best:coco/AP'), is_spec('top:AP:2'), is_spec('epoch_3.pth')
        (True, True, False)
    """
    return _KINDS.match(text) is not None


def split_spec(text: str, work_dir: str | Path | None = None) -> tuple[Path, str] | None:
    """Take ``DIR@SPEC`` apart; a spec alone belongs to ``work_dir``.

    What exists as a path is a path, whatever it looks like.

    Args:
        text (str): What stands where a checkpoint is expected.
        work_dir (str or Path, optional): Where a spec alone looks. Defaults to None, nowhere.

    Returns:
        tuple: Directory and spec; None for a path.

    Example:
        >>> split_spec('.@best:PCK@0.1'), split_spec('best:AP', 'work_dirs/run'), split_spec('epoch_3.pth')
        ((PosixPath('.'), 'best:PCK@0.1'), (PosixPath('work_dirs/run'), 'best:AP'), None)
    """
    if Path(text).exists():
        return None
    if work_dir is not None and is_spec(text):
        return Path(work_dir), text
    for at in re.finditer('@', text):
        directory, spec = text[:at.start()], text[at.end():]
        if directory and is_spec(spec):
            return Path(directory), spec
    return None


def find_checkpoint(directory: str | Path, spec: str, logger: logging.Logger | None = None) -> FoundCheckpoint:
    """Find a checkpoint of a run by what it is, and check every byte of it.

    Args:
        directory (str or Path): Where the checkpoints of the run lie.
        spec (str): ``'latest'`` or ``'last'`` (the newest), ``'best:AP'``
            (``'best'`` where there is only one metric), ``'top:AP:2'`` (the
            second best), ``'epoch:10'``, ``'iter:5000'``.
        logger (Logger, optional): Where rejected files are named. Defaults to
            the logger ``mmckpt``.

    Returns:
        FoundCheckpoint: The file. Where the one that was asked for is not
        there or not valid and another one serves the same purpose (the newest
        best where no last was kept, the one before, the next best), it is
        that one and ``note`` says so.

    Raises:
        ValueError: If ``spec`` is none.
        CheckpointNotFoundError: If there is none; the message names the nearest ones.
        CorruptCheckpointError: If there are some, but none is valid.
    """
    if not is_spec(spec):
        raise ValueError(f'{spec!r} does not name a checkpoint: write one of {FORMS}.')
    view = read_view(directory, logger)
    if not view.records():
        raise CheckpointNotFoundError(f'{spec}: {directory} holds no checkpoint.')
    kind, _, rest = spec.partition(':')
    if kind in ('latest', 'last'):
        candidates, wanted = _newest(view, spec)
    elif kind in ('best', 'top'):
        candidates, wanted = _best(view, kind, rest)
    else:
        candidates = _of_step(view, kind, int(rest))
        # A run that was begun anew in the directory may not have come that far; the file is then the old one's.
        wanted = [record for record in candidates if record.run == view.index.current_run]
    return _first_valid(view, spec, candidates, wanted)


def metrics_of_bests(records: Sequence[Record]) -> list[str]:
    """Return the names of the scores by which bests of some records were chosen."""
    roles = dict.fromkeys(role for record in map(_named_best, records) for role in record.roles
                          if role.startswith(_BEST))
    return [role[len(_BEST):] for role in roles]


def ranked(records: Sequence[Record], metric: str) -> list[Record]:
    """Return the bests of a metric, best first, a file for each step.

    Raises:
        ValueError: If neither a record nor the name tells the rule.
    """
    ours = [record for record in map(_named_best, records) if _BEST + metric in record.roles]
    rule = next((r.rules[metric] for r in ours if metric in r.rules), None)
    policy = KeepBest(_BEST + metric, -1, infer_rule(metric, rule))
    best_of_step: dict[tuple[int, int], Record] = {}
    for record in ours:
        known = best_of_step.get((record.epoch, record.iter))
        # The file that was made as a best, where the step has its plain name too.
        if known is None or (not known.name.startswith('best') and record.name.startswith('best')):
            best_of_step[record.epoch, record.iter] = record
    return sorted(best_of_step.values(), key=lambda record: policy.rank([record]))


def _newest(view: StoreView, spec: str) -> tuple[list[Record], list[Record]]:
    newest = newest_first(view.records())
    # A file that is there only because it was a best is the newest, but nobody kept it as the last one.
    roles = _named_best(newest[0]).roles
    is_last = spec == 'latest' or PERIODIC in roles or not any(role.startswith(_BEST) for role in roles)
    return newest, newest[:1] if is_last else []


def _best(view: StoreView, kind: str, rest: str) -> tuple[list[Record], list[Record]]:
    # A directory may hold several runs; the current one is meant.
    records = view.records_of_run() or view.records()
    known = metrics_of_bests(records)
    metric, _, number = (rest, '', '1') if kind == 'best' else rest.rpartition(':')
    if not metric:
        if len(known) != 1:
            raise CheckpointNotFoundError(
                f'best: {view.directory} holds bests by {len(known)} scores; name one, as in best:METRIC. '
                f'{near_matches("", known)}')
        metric = known[0]
    if metric not in known:
        raise CheckpointNotFoundError(
            f'{kind}:{rest}: {view.directory} holds no best by {metric!r}. {near_matches(metric, known)}')
    try:
        order = ranked(records, metric)
    except ValueError as error:
        raise CheckpointNotFoundError(f'{kind}:{rest}: {error}') from None
    position = int(number)
    if position > len(order):
        raise CheckpointNotFoundError(
            f'top:{rest}: only {len(order)} of the best by {metric} are kept; the nearest is top:{metric}:{len(order)} '
            f'({order[-1].name}).')
    return order[position - 1:], order[position - 1:position]


def _named_best(record: Record) -> Record:
    """Stock MMEngine says only in the name of a file that it is a best."""
    return replace(record, roles=(role_from_name(record.name),)) if FOREIGN in record.roles else record


def _of_step(view: StoreView, kind: str, step: int) -> list[Record]:
    newest = newest_first(view.records())
    found = [record for record in newest if getattr(record, kind) == step]
    if found:
        return found
    steps = sorted({getattr(record, kind) for record in newest}, key=lambda there: (abs(there - step), there))
    near = ', '.join(f'{kind}:{there} ({next(r.name for r in newest if getattr(r, kind) == there)})'
                     for there in steps[:3])
    raise CheckpointNotFoundError(f'{kind}:{step}: {view.directory} holds no such checkpoint; the nearest are {near}.')


def _first_valid(view: StoreView, spec: str, candidates: Sequence[Record],
                 wanted: Sequence[Record]) -> FoundCheckpoint:
    faults = []
    for record in candidates:
        fault = view.verify(record)
        if fault is None:
            # All names of the bytes that were asked for are what was asked for.
            exact = any(record is other or (record.digest and record.digest == other.digest) for other in wanted)
            return FoundCheckpoint(view.directory / record.name, record, '' if exact else _note(
                view, spec, record, faults))
        faults.append(f'{record.name}: {fault}')
        view.logger.warning('%s is skipped: %s.', view.directory / record.name, fault)
    raise CorruptCheckpointError(f'{spec}: no checkpoint of {view.directory} that it could be is valid ('
                                 f"{'; '.join(faults)}).")


def _note(view: StoreView, spec: str, record: Record, faults: list[str]) -> str:
    why = f'not valid ({faults[0]})' if faults else 'not kept'
    kept_as = ', '.join(role.replace(_BEST, 'the best by ') for role in record.roles) or 'kept for nothing'
    return (f'{spec} of {view.directory} is {why}: takes {record.name} (epoch {record.epoch}, iter {record.iter}; '
            f'{kept_as})')
