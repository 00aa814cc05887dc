"""Means of weights."""

import pytest
import torch

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.state.soup import average_weights, greedy_soup


def test_halves_are_summed_in_double_precision_and_counters_are_the_first_ones():
    members = [dict(w=torch.full((2,), 60000., dtype=torch.float16), n=torch.tensor(k), s='x') for k in (3, 9, 9)]
    mean = average_weights(members, 'abc')
    assert mean['w'].dtype == torch.float16 and mean['w'].tolist() == [60000., 60000.]
    assert mean['n'].item() == 3 and mean['s'] == 'x'
    mean['w'].zero_()
    assert members[0]['w'][0] == 60000.


@pytest.mark.parametrize('other, said', [
    (dict(w=torch.zeros(3)), r"'w' has the shapes \(2,\) and \(3,\)"),
    (dict(v=torch.zeros(2)), "'v' is in one of them"),
])
def test_other_architectures_are_refused(other, said):
    with pytest.raises(IncompatibleCheckpointError, match=f'a.pth and b.pth cannot be averaged.*{said}'):
        average_weights([dict(w=torch.zeros(2)), other], ['a.pth', 'b.pth'])


def test_greedy_is_never_worse_than_its_best_member():
    generator = torch.Generator().manual_seed(0)
    members = [dict(w=torch.randn(3, generator=generator)) for _ in range(8)]

    def loss(weights):
        return weights['w'].square().sum().item()

    members.sort(key=loss)
    taken, scores = greedy_soup(members, 'abcdefgh', loss, lambda a, b: a < b)
    mean = average_weights([members[i] for i in taken], 'abcdefgh')
    assert taken[0] == 0 and len(scores) == 8 and loss(mean) <= loss(members[0])
