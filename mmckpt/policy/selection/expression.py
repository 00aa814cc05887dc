"""Scores that combine several metrics, written as arithmetic."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from typing import Callable

_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
}
_SIGNS: dict[type, Callable[[float], float]] = {ast.UAdd: lambda a: a, ast.USub: lambda a: -a}
_FUNCTIONS: dict[str, Callable[..., float]] = {'min': min, 'max': max, 'abs': abs}
_ALLOWED = ('It may hold numbers, names of metrics (in quotes if they have other characters than letters, digits '
            "and _, as in '\"coco/AP\"'), + - * /, parentheses, min(), max() and abs().")
# What is nested deeper would exhaust Python's parser, or the stack of the training that evaluates it.
_MOST_CHARACTERS = 1000
_DEEPEST = 100


class Expression:
    """Arithmetic on metric names, parsed once; no other code can be in it.

    Args:
        text (str): Such as ``'0.7 * AP + 0.3 * "coco/AR" - 0.1 * loss'``.

    Raises:
        ValueError: If it is anything else than that; the message points at the character.

    Example:
        >>> score = Expression('0.7 * AP + 0.3 * "coco/AR"')
        >>> score.names, round(score({'AP': 0.5, 'coco/AR': 1.0}), 6)
        (('AP', 'coco/AR'), 0.65)
        >>> Expression('AP +* PCK')
        Traceback (most recent call last):
        ...
        ValueError: The expression cannot be read at character 5: invalid syntax.
            AP +* PCK
                ^
        It may hold numbers, names of metrics (in quotes if they have other characters than letters, digits \
and _, as in '"coco/AP"'), + - * /, parentheses, min(), max() and abs().
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f'An expression must be a text such as "0.7 * AP + 0.3 * PCK", but got {text!r}.')
        # A line break or an indent would mean something to the parser.
        self.text = ' '.join(text.split())
        if len(self.text) > _MOST_CHARACTERS:
            raise self._error(_MOST_CHARACTERS, f'it is longer than {_MOST_CHARACTERS} characters')
        names: dict[str, None] = {}
        self._tree = self._parse()
        self._check(self._tree, names)
        if not names:
            raise self._error(0, 'it names no metric')
        self.names: tuple[str, ...] = tuple(names)

    def __call__(self, values: Mapping[str, float]) -> float:
        """Return the score; NaN where a division by zero or an overflow leaves none.

        Args:
            values (Mapping[str, float]): A value for each of ``names``.
        """
        try:
            return float(_evaluate(self._tree, values))
        except (ZeroDivisionError, OverflowError):
            return math.nan

    def _parse(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                return ast.parse(self.text, mode='eval').body
        except SyntaxError as error:
            raise self._error((error.offset or 1) - 1, error.msg) from None
        except (ValueError, MemoryError, RecursionError):
            raise self._error(0, 'it is nested too deeply or holds a character that is none') from None

    def _check(self, node: ast.expr, names: dict[str, None], depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise self._error(self._column(node), 'it is nested too deeply')
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            self._check(node.left, names, depth + 1)
            self._check(node.right, names, depth + 1)
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
            self._check(node.operand, names, depth + 1)
        elif isinstance(node, ast.Call):
            self._check_call(node, names, depth + 1)
        elif isinstance(node, ast.Name):
            # Python puts other characters for some, such as the micro sign.
            node.id = self.text.encode()[node.col_offset:node.end_col_offset].decode()
            names[node.id] = None
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
            names[node.value] = None
        elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
            raise self._error(self._column(node), f'{_named(node)} is not allowed')

    def _check_call(self, node: ast.Call, names: dict[str, None], depth: int) -> None:
        function = node.func.id if isinstance(node.func, ast.Name) else None
        if function not in _FUNCTIONS or node.keywords:
            raise self._error(self._column(node), f'only {", ".join(_FUNCTIONS)} can be called')
        fits = len(node.args) == 1 if function == 'abs' else len(node.args) >= 2
        if not fits:
            wanted = 'one argument' if function == 'abs' else 'at least two arguments'
            raise self._error(self._column(node), f'{function}() takes {wanted}')
        for argument in node.args:
            self._check(argument, names, depth)

    def _column(self, node: ast.expr) -> int:
        # Python counts bytes.
        return len(self.text.encode()[:node.col_offset].decode(errors='ignore'))

    def _error(self, column: int, reason: str) -> ValueError:
        column = min(column, len(self.text))
        shown = self.text if len(self.text) <= _MOST_CHARACTERS else f'{self.text[:_MOST_CHARACTERS]}...'
        return ValueError(f'The expression cannot be read at character {column + 1}: {reason}.\n'
                          f"    {shown}\n    {' ' * column}^\n{_ALLOWED}")


def _evaluate(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_evaluate(node.left, values), _evaluate(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _SIGNS[type(node.op)](_evaluate(node.operand, values))
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        arguments = [_evaluate(argument, values) for argument in node.args]
        # min() and max() would hide a NaN that does not come first.
        return math.nan if any(map(math.isnan, arguments)) else _FUNCTIONS[node.func.id](*arguments)
    if isinstance(node, ast.Name):
        return values[node.id]
    assert isinstance(node, ast.Constant)
    return values[node.value] if isinstance(node.value, str) else float(node.value)  # type: ignore[arg-type]


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return f'{node.value!r}'
    if isinstance(node, ast.BinOp):
        return f'the operator {type(node.op).__name__}'
    return f'{type(node).__name__}'
