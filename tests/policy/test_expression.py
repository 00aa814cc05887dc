"""Combined scores: what they compute, and where they point when they cannot be read."""

from __future__ import annotations

import math
import sys

import pytest

from mmckpt.policy.selection import Expression

VALUES = {'AP': .5, 'PCK': .8, 'loss': 2., 'coco/AP': .4, 'depth-abs_rel0': .1, 'AP@0.5': .9, 'µ': 3., 'nan': math.nan}


@pytest.mark.parametrize('text, score', [
    ('0.7 * AP + 0.3 * PCK - 0.1 * loss', .7 * .5 + .3 * .8 - .1 * 2.),
    ('"coco/AP" + \'depth-abs_rel0\'', .5),
    ('-(AP - PCK) / 2', .15),
    ('max(AP, PCK, 0.9) - min(AP, 0.2) + abs(0 - loss)', .9 - .2 + 2.),
    ('2 * AP * PCK / (AP + PCK)', 2 * .5 * .8 / 1.3),
    ('"AP@0.5" * 1e-1', .09),
    ('  AP\n + 1', 1.5),
    ('µ * 2', 6.),
    ('+AP', .5),
])
def test_arithmetic(text, score):
    assert Expression(text)(VALUES) == pytest.approx(score)


@pytest.mark.parametrize('text', ['AP / (PCK - PCK)', 'AP / 0', 'max(AP, "nan")', 'min("nan", AP)', 'AP + "nan"',
                                  'AP * 1e308 * 1e308 - AP * 1e308 * 1e308'])
def test_what_is_no_number_is_nan(text):
    assert math.isnan(Expression(text)(VALUES))


@pytest.mark.parametrize('text, character, reason', [
    ('AP +* PCK', 5, 'invalid syntax'),
    # Python 3.9 does not remember where the parenthesis was opened.
    ('AP + (PCK', *((6, 'was never closed') if sys.version_info >= (3, 10) else (9, 'unexpected EOF'))),
    ('AP ** 2', 1, 'the operator Pow is not allowed'),
    ('AP + PCK // 2', 6, 'the operator FloorDiv is not allowed'),
    ('AP + __import__("os").system("ls")', 6, 'only min, max, abs can be called'),
    ('AP + exp(PCK)', 6, 'only min, max, abs can be called'),
    ('AP + PCK.real', 6, 'Attribute is not allowed'),
    ('AP + [PCK][0]', 6, 'Subscript is not allowed'),
    ('AP if PCK else 1', 1, 'IfExp is not allowed'),
    ('AP + True', 6, 'True is not allowed'),
    ('AP + 2j', 6, '2j is not allowed'),
    ('AP + (lambda: 1)()', 6, 'only min, max, abs can be called'),
    ('AP < PCK', 1, 'Compare is not allowed'),
    ('not AP', 1, 'UnaryOp is not allowed'),
    ('min(AP)', 1, 'min() takes at least two arguments'),
    ('abs(AP, PCK)', 1, 'abs() takes one argument'),
    ('max(AP, key=PCK)', 1, 'only min, max, abs can be called'),
    ('max(*AP, PCK)', 5, 'Starred is not allowed'),
    ('"µ" + "µ" + x.y', 13, 'Attribute is not allowed'),
    ('1 + 2', 1, 'it names no metric'),
    ('(AP := 2)', 2, 'NamedExpr is not allowed'),
    ('+'.join(['AP'] * 400), 1001, 'longer than 1000 characters'),
])
def test_errors_point_at_the_character(text, character, reason):
    with pytest.raises(ValueError) as caught:
        Expression(text)
    message = str(caught.value)
    assert message.startswith(f'The expression cannot be read at character {character}: ') and reason in message
    caret = message.splitlines()[2]
    assert caret.index('^') == 4 + character - 1 and 'names of metrics (in quotes' in message


@pytest.mark.parametrize('text', ['(' * 400 + 'AP' + ')' * 400, '-' * 900 + 'AP', 'AP\x00'])
def test_what_the_parser_cannot_hold_is_refused_too(text):
    with pytest.raises(ValueError, match='cannot be read'):
        Expression(text)(VALUES)


@pytest.mark.parametrize('text', ['', '   ', None, 3])
def test_an_empty_one_shows_what_one_looks_like(text):
    with pytest.raises(ValueError, match=r'such as "0.7 \* AP'):
        Expression(text)


def test_names_are_those_of_metrics_only():
    assert Expression('max(AP, "coco/AP") - AP').names == ('AP', 'coco/AP')
