"""What is done about an event of the training, and how often before it is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from mmckpt.errors import near_matches

Kind = Literal['warn', 'skip', 'stop', 'rollback']
KINDS = ('warn', 'skip', 'stop', 'rollback')
_PARAMETERS: dict[str, tuple[str, ...]] = {
    'skip': ('max_skips',), 'rollback': ('skip_iters', 'lr_factor', 'max_rollbacks')}


@dataclass(frozen=True)
class Reaction:
    """What an event leads to.

    Args:
        type (str): ``'warn'``, ``'skip'``, ``'stop'`` or ``'rollback'``.
        max_skips (int): With ``'skip'``: updates in a row that may be dropped; one
            more stops the training. Defaults to 10.
        skip_iters (int): With ``'rollback'``: iterations up to the event, it
            included, whose updates are left out when they come again; 0 repeats
            them. A divergence is seen late, so it counts from where that can
            have begun, and all since are left out too. Defaults to 1.
        lr_factor (float): With ``'rollback'``: the learning rate is multiplied by
            it. Defaults to 1.0.
        max_rollbacks (int): With ``'rollback'``: how often in a run; one more stops
            the training. Defaults to 3.
    """

    type: Kind = 'warn'
    max_skips: int = 10
    skip_iters: int = 1
    lr_factor: float = 1.0
    max_rollbacks: int = 3


def read_reaction(name: str, given: str | Mapping[str, Any], kinds: tuple[str, ...] = KINDS) -> Reaction:
    """Read an argument such as ``on_nan``.

    Args:
        name (str): The argument, for messages.
        given (str or dict): A type, or ``dict(type=..., **parameters)``.
        kinds (tuple[str]): The types that make sense here. Defaults to all.

    Returns:
        Reaction: Checked.

    Raises:
        ValueError: If the type or a parameter is unknown, or a number out of its range.

    Example:
        >>> read_reaction('on_nan', dict(type='rollback', lr_factor=0.5)).lr_factor
        0.5
    """
    fields = {'type': given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
    kind = fields.pop('type', None)
    if kind not in kinds:
        raise ValueError(f"{name} must be {_either(kinds)}, or a dict with such a 'type', but got {given!r}.")
    known = _PARAMETERS.get(kind, ())
    for key in fields:
        if key not in known:
            raise ValueError(f'{name}: type={kind!r} has no parameter {key!r}. {near_matches(key, known)}')
    reaction = Reaction(cast(Kind, kind), **fields)
    _check(name, reaction)
    return reaction


class SkipCount:
    """Counts updates that were not applied.

    Example:
        >>> count = SkipCount()
        >>> count.dropped('nan'), count.dropped('spike'), count.total
        (1, 2, 2)
        >>> count.applied()
        >>> count.in_a_row
        0
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self.by_cause: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Updates dropped so far, whatever the cause."""
        return sum(self.by_cause.values())

    def dropped(self, cause: str) -> int:
        """Count one; return how many in a row that makes."""
        self.by_cause[cause] = self.by_cause.get(cause, 0) + 1
        self.in_a_row += 1
        return self.in_a_row

    def left_out(self) -> None:
        """Count one that a rollback had planned to leave out; it says nothing about the training."""
        self.by_cause['rollback'] = self.by_cause.get('rollback', 0) + 1

    def applied(self) -> None:
        """Note that an update was applied."""
        self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the counters in plain types."""
        return {'version': 1, 'in_a_row': self.in_a_row, 'by_cause': dict(self.by_cause)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row, self.by_cause = state['in_a_row'], dict(state['by_cause'])


def _check(name: str, reaction: Reaction) -> None:
    for key, least in (('max_skips', 1), ('skip_iters', 0), ('max_rollbacks', 1)):
        value = getattr(reaction, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{name}: {key} must be a whole number of at least {least}, but got {value!r}.')
    if not 0 < reaction.lr_factor <= 1:
        raise ValueError(f'{name}: lr_factor must be above 0 and at most 1, but got {reaction.lr_factor!r}.')


def _either(kinds: tuple[str, ...]) -> str:
    return ', '.join(map(repr, kinds[:-1])) + f' or {kinds[-1]!r}'
