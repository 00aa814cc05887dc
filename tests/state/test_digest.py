"""Texts of values are equal exactly if the values are."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmckpt.state.digest import digest, leaf_texts


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Slotted:
    __slots__ = ('count',)

    def __init__(self, count):
        self.count = count


def seeded():
    return torch.Generator().manual_seed(1)


def drawn(generator, draw):
    draw(generator)
    return generator


DIFFERENT = [
    (1, 2), (1, 1.0), (True, 1), (0.0, -0.0), (None, 0), ('a', 'b'), ([], {'a': 1}), ([1, 2], [2, 1]),
    ({'a': 1}, {'b': 1}), ({'a': {'b': 1}}, {'a': {'b': 2}}), ('x' * 99, 'x' * 98 + 'y'),
    (torch.zeros(2), torch.zeros(3)), (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    (torch.tensor(1.), torch.tensor(1. + 2**-23)),
    (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)),
    (np.zeros(2), np.zeros(2, dtype=np.float32)), (Holder(a=1), Holder(a=2)), (Slotted(1), Slotted(2)),
    (Holder(inner=Holder(a=1)), Holder(inner=Holder(a=2))),
    (random.Random(1), random.Random(2)), (np.random.default_rng(1), np.random.default_rng(2)),
    (np.random.RandomState(1), np.random.RandomState(2)),
    (seeded(), drawn(seeded(), lambda g: torch.rand(1, generator=g))),
]
SAME = [
    (np.float64(.5), .5), ((1, 2), [1, 2]), (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
    (torch.arange(6).reshape(2, 3).T, torch.arange(6).reshape(2, 3).T.contiguous()),
    ({'a': 1, 'b': 2}, {'b': 2, 'a': 1}), ({1, 2}, {2, 1}), (float('nan'), float('nan')),
    (seeded(), seeded()),
    (Holder(f=lambda: 1, log=logging.getLogger('a'), net=torch.nn.Linear(1, 1)), Holder(f=print)),
]


@pytest.mark.parametrize('one, other', DIFFERENT)
def test_different_values_have_different_texts(one, other):
    assert leaf_texts(one) != leaf_texts(other)
    assert digest(one) != digest(other)


@pytest.mark.parametrize('one, other', SAME)
def test_equal_values_have_equal_texts(one, other):
    assert leaf_texts(one) == leaf_texts(other)
    assert digest(one) == digest(other)


def test_a_value_that_holds_itself_ends():
    holder = Holder(count=3)
    holder.me = [holder]
    assert leaf_texts(holder, 'holder') == {'holder.count': 'int 3'}


def test_a_digest_is_that_of_any_process():
    code = "from mmckpt.state.digest import digest; print(digest({'s': {'b', 'a', 'c'}, 'x': [1.5, None]}))"
    printed = {subprocess.run([sys.executable, '-c', code], env=dict(os.environ, PYTHONHASHSEED=seed), check=True,
                              text=True, stdout=subprocess.PIPE).stdout for seed in ('1', '2')}
    assert printed == {digest({'s': {'a', 'b', 'c'}, 'x': [1.5, None]}) + '\n'}
