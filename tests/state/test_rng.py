"""Random streams come back to the same numbers, through a file too."""

import random

import numpy as np
import pytest
import torch

from mmckpt.state import rng
from mmckpt.state.rng import capture_rng_state, preserved_rng, register_generator, restore_rng_state


def draws():
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item(),
            torch.randn(1).item()]


def test_streams_continue_after_a_round_trip_through_a_file(tmp_path):
    random.gauss(0, 1), np.random.randn(), torch.randn(3)  # leaves half-used Gaussian pairs behind
    torch.save(capture_rng_state(), tmp_path / 'rng.pth')
    expected = [draws() for _ in range(3)]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    restored = restore_rng_state(torch.load(tmp_path / 'rng.pth', weights_only=True))
    assert restored[:3] == ['python', 'numpy', 'torch']
    assert [draws() for _ in range(3)] == expected


@pytest.mark.skipif(not hasattr(np.random, 'set_bit_generator'), reason='NumPy < 1.24')
@pytest.mark.parametrize('kind', ['MT19937', 'PCG64', 'Philox', 'SFC64'])
def test_every_numpy_bit_generator_round_trips(kind):
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(getattr(np.random, kind)(5))
        state = capture_rng_state()
        expected = np.random.rand(4)
        restore_rng_state(state)
        assert np.array_equal(np.random.rand(4), expected)
    finally:
        np.random.set_bit_generator(before)


def test_preserved_rng_hides_draws_even_when_the_body_raises():
    state = capture_rng_state()
    expected = draws()
    restore_rng_state(state)
    with pytest.raises(ZeroDivisionError), preserved_rng():
        draws()
        raise ZeroDivisionError
    assert draws() == expected


@pytest.mark.parametrize('generator, draw', [
    (torch.Generator().manual_seed(1), lambda g: torch.randn(1, generator=g).item()),
    (np.random.default_rng(1), lambda g: g.standard_normal()),
    (np.random.Generator(np.random.Philox(1)), lambda g: g.integers(1 << 40)),
    (random.Random(1), lambda g: g.gauss(0, 1)),
])
def test_registered_generators_continue_after_a_round_trip(generator, draw, tmp_path, monkeypatch):
    monkeypatch.setattr(rng, '_registered', {})
    register_generator('mine', generator)
    draw(generator)
    torch.save(capture_rng_state(), tmp_path / 'rng.pth')
    expected = [draw(generator) for _ in range(3)]
    assert 'mine' in restore_rng_state(torch.load(tmp_path / 'rng.pth', weights_only=True))
    assert [draw(generator) for _ in range(3)] == expected


def test_registering_something_else_is_refused():
    with pytest.raises(TypeError, match='but got int'):
        register_generator('seed', 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_streams_come_back():
    state = capture_rng_state()
    expected = torch.rand(3, device='cuda')
    restore_rng_state(state)
    assert torch.equal(torch.rand(3, device='cuda'), expected)
