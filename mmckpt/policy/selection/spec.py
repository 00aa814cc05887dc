"""What ``save_best`` and early stopping are told about one score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mmckpt.errors import near_matches
from mmckpt.policy.selection.expression import Expression
from mmckpt.policy.selection.filename import FileTemplate
from mmckpt.policy.selection.rules import DEFAULT_GREATER, DEFAULT_LESS, infer_rule
from mmckpt.policy.selection.smoothing import Smooth, Smoothing, make_smoothing

_ASKS = ('metric', 'expr')


@dataclass(frozen=True)
class Selection:
    """One score by which checkpoints are chosen.

    Args:
        name (str): What it is called in roles, records and the hub: ``'PCK'``.
        metric (str, optional): The metric; None with ``expr``.
        expr (str, optional): Arithmetic on metrics, see :class:`Expression`.
        rule (str, optional): ``'greater'`` or ``'less'``. Defaults to None,
            inferred from the name of the metric.
        keep (int): How many of the best steps are kept; -1 keeps all. Defaults to 1.
        smooth (float or dict, optional): See :func:`make_smoothing`. Defaults to None.
        min_delta (float): By how much a score must beat the worst one that is
            kept, in units of the metric. Defaults to 0.0.
        begin (int): Epochs (or iterations) before which nothing is kept. Defaults to 0.
        save_optimizer (bool, optional): Whether the file holds the optimizer.
            Defaults to None, as the hook's other files.
        filename (str, optional): Name of the files, see :class:`FileTemplate`.
            Defaults to None, MMEngine's ``best_<name>_epoch_<n>.pth``.

    Raises:
        ValueError: If a value is out of its range or the rule is another word.

    Example:
        >>> parse_selection(dict(metric='PCK', keep=3, smooth=0.6)).keep
        3
    """

    name: str
    metric: str | None = None
    expr: str | None = None
    rule: str | None = None
    keep: int = 1
    smooth: Smooth = None
    min_delta: float = 0.0
    begin: int = 0
    save_optimizer: bool | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise self._wrong('name', 'a text')
        if self.rule not in ('greater', 'less', None):
            raise self._wrong('rule', "'greater', 'less' or None (infer it)")
        if type(self.keep) is not int or (self.keep < 1 and self.keep != -1):
            raise self._wrong('keep', 'a number of checkpoints of at least 1, or -1 for all')
        if not _is_number(self.min_delta) or not 0 <= self.min_delta < math.inf:
            raise self._wrong('min_delta', 'a number of at least 0')
        if type(self.begin) is not int or self.begin < 0:
            raise self._wrong('begin', 'a number of epochs or iterations of at least 0')
        if self.save_optimizer not in (True, False, None):
            raise self._wrong('save_optimizer', 'True, False or None')
        if self.filename is not None:
            FileTemplate(self.filename)
        self.smoothing()
        self.expression()

    @property
    def needs(self) -> tuple[str, ...]:
        """The metrics that a validation must give."""
        expression = self.expression()
        return (self.metric or self.name,) if expression is None else expression.names

    def expression(self) -> Expression | None:
        """Return the parsed ``expr``, or None."""
        return None if self.expr is None else Expression(self.expr)

    def smoothing(self) -> Smoothing | None:
        """Return a new smoothing, or None."""
        return make_smoothing(self.smooth)

    def with_rule(self, greater_keys: Iterable[str] = DEFAULT_GREATER,
                  less_keys: Iterable[str] = DEFAULT_LESS) -> Selection:
        """Return the selection with its rule, inferred where it is open.

        Raises:
            ValueError: If nothing tells whether more or less is better.
        """
        if self.rule is not None:
            return self
        if self.expr is not None:
            raise ValueError(
                f'Whether more or less of the combined score {self.name!r} is better cannot be inferred: set '
                f"rule='greater' or rule='less' in dict(name={self.name!r}, expr={self.expr!r}, rule='greater').")
        return replace(self, rule=infer_rule(self.metric or self.name, None, greater_keys, less_keys))

    def _wrong(self, argument: str, wanted: str) -> ValueError:
        return ValueError(f'{argument} of {self.name!r} must be {wanted}, but got {getattr(self, argument)!r}.')


def asks_for_a_score(value: Any) -> bool:
    """Whether a dict is a selection; any other is refused, as MMEngine refuses dicts.

    Example:
        >>> asks_for_a_score(dict(expr='AP + PCK')), asks_for_a_score(dict(AP=1)), asks_for_a_score('AP')
        (True, False, False)
    """
    return isinstance(value, Mapping) and any(key in value for key in _ASKS)


def parse_selection(value: str | Mapping[str, Any]) -> Selection:
    """Read a metric's name or a spec with ``metric`` or ``expr``.

    Raises:
        ValueError: If the spec has both, an unknown key, or a value out of its range.

    Example:
        >>> parse_selection(dict(name='score', expr='0.7 * AP + 0.3 * PCK', rule='greater')).needs
        ('AP', 'PCK')
    """
    if isinstance(value, str):
        return Selection(value, metric=value)
    given = dict(value)
    known = [field.name for field in fields(Selection)]
    for key in given:
        if key not in known:
            raise ValueError(f'The selection {dict(value)!r} has an unknown key {key!r}. {near_matches(key, known)}')
    if all(given.get(key) is not None for key in _ASKS):
        raise ValueError(f'The selection {dict(value)!r} has both metric and expr: give one of them.')
    if given.get('metric') is None and given.get('expr') is None:
        raise ValueError(f"A selection needs metric='AP' or expr='0.7 * AP + 0.3 * PCK', but got {dict(value)!r}.")
    given.setdefault('name', given.get('metric') or given.get('expr'))
    return Selection(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
