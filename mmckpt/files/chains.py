"""Chains of PyTorch's schedulers as the several schedulers that MMEngine has in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmckpt.files.schedule_kinds import ABSOLUTE, ends_at_base, is_count, kind_of, misplaced


@dataclass(frozen=True)
class Part:
    """One scheduler of a chain, or one that stands alone.

    Args:
        state (Mapping): Its state, as PyTorch keeps it.
        kind (str): MMEngine's class; '' if there is none, or none is needed any more.
        reason (str): Why there is none, or ''.
        begin (int): The step of the training at which it begins.
        end (int, optional): The step at which it does nothing any more. Defaults to None, never.
        made (int): Steps of the training. Defaults to 0.
    """

    state: Mapping[str, Any]
    kind: str
    reason: str
    begin: int = 0
    end: int | None = None
    made: int = 0


def parts_of(state: Any) -> list[Part]:
    """Return the schedulers that a state of PyTorch's stands for, in the order in which they act.

    ``SequentialLR`` and ``ChainedScheduler`` become several; MMEngine runs all
    of its schedulers at every step, each from its ``begin`` to its ``end``.

    Example:
        >>> step = dict(step_size=2, gamma=0.5, last_epoch=3, base_lrs=[0.1])
        >>> decay = dict(gamma=0.9, last_epoch=3, base_lrs=[0.1])
        >>> [part.kind for part in parts_of({'_schedulers': [step, decay], '_last_lr': [0.03]})]
        ['StepLR', 'ExponentialLR']
    """
    below = state.get('_schedulers') if isinstance(state, dict) else None
    if not isinstance(below, list) or not below:
        return [_single(state)]
    if '_milestones' in state:
        return _sequence(state, below)
    parts = [_single(part) for part in below]
    return [beside_others(part) for part in parts] if len(parts) > 1 else parts


def beside_others(part: Part) -> Part:
    """Return a part that acts together with others: warm restarts have a counterpart only where they are alone."""
    if part.kind != 'CosineRestartLR':
        return part
    return Part({}, '', "MMEngine's CosineRestartLR goes on from the rate that it finds, which others change")


def _single(state: Any) -> Part:
    kind, reason = kind_of(state)
    if kind == 'CosineRestartLR':
        reason = misplaced(state) or ''
    if reason:
        return Part(state if isinstance(state, dict) else {}, '', reason)
    total = state.get('total_iters')
    return Part(state, kind, '', 0, None if total is None else total + 1, state['last_epoch'])


def _sequence(state: Mapping[str, Any], below: list[Any]) -> list[Part]:
    """The parts of a ``SequentialLR``: at a milestone PyTorch goes to the full rate of the next one."""
    made, milestones = state.get('last_epoch'), state['_milestones']
    if not (is_count(made) and isinstance(milestones, list) and len(milestones) == len(below) - 1
            and all(is_count(at) for at in milestones) and milestones == sorted(milestones)):
        return [Part({}, '', 'its milestones are unknown')] * len(below)
    found: list[Part] = []
    since = begin = 0
    for part, end, before in zip(below, [*milestones, None], [None, *below]):
        found.append(_link(part, begin, end, made))
        if begin > made and found[-1].kind not in ('', *ABSOLUTE) and not _gives_back(before, begin - since):
            kind, _ = kind_of(before)
            found[-1] = Part({}, '', (
                f"at step {begin} PyTorch goes back to the full rate, and MMEngine's {found[-1].kind} would go on "
                f'from what {kind or "the one before"} leaves of it'))
        since, begin = begin, end
    return found


def _link(state: Any, begin: int, end: int | None, made: int) -> Part:
    if end is not None and end <= made:
        # It has done its part, whatever it was.
        return Part(state if isinstance(state, dict) else {}, '', '', begin, end, made)
    kind, reason = kind_of(state)
    if not reason and begin <= made:
        count = state['last_epoch']
        if count != made - begin:
            reason = f'it has made {count} steps, and {made - begin} were made since its milestone'
        elif kind == 'CosineRestartLR':
            reason = misplaced(state) or ''
    if reason:
        return Part({}, '', reason)
    total = state.get('total_iters')
    if total is not None and (end is None or total < end - begin or ends_at_base(kind, state, end - begin)):
        # What ends at the very milestone gives back the full rate there, before the next one acts.
        end = begin + total + 1
    return Part(state, kind, '', begin, end, made)


def _gives_back(state: Any, steps: int) -> bool:
    kind, _ = kind_of(state)
    return bool(kind) and ends_at_base(kind, state, steps)
