"""Episodes are whole, drawn by seed and pass only, and matched without knowing category or key point."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmckpt.data import ResumableSampler
from mmckpt.demo import DigitsKeypointDataset, EpisodeSampler, EpisodicKeypointNet


class Letters:
    """Three categories of 9, 6 and 1 samples."""

    text = 'abababababacbabaa'

    def __len__(self):
        return len(self.text)

    def get_cat_ids(self, idx):
        return [self.text[idx]]


def episodes(sampler):
    order = [int(i) for i in sampler]
    return [order[i:i + sampler.size] for i in range(0, len(order), sampler.size)]


@pytest.mark.parametrize('shuffle', [True, False])
def test_an_episode_is_of_one_category_and_no_sample_serves_twice(shuffle):
    sampler = EpisodeSampler(Letters(), shots=1, queries=2, shuffle=shuffle, seed=0)
    made = episodes(sampler)
    assert len(made) == 5 and len(sampler) == 15
    assert all(len({Letters.text[i] for i in episode}) == 1 for episode in made)
    used = [i for episode in made for i in episode]
    assert len(set(used)) == len(used)


def test_the_order_is_a_function_of_seed_and_pass():
    first, second = (EpisodeSampler(Letters(), 1, 2, seed=5) for _ in range(2))
    assert list(first) == list(second) == list(first)
    second.set_epoch(1)
    assert list(first) != list(second)
    first.set_epoch(1)
    assert list(first) == list(second)
    assert list(EpisodeSampler(Letters(), 1, 2, seed=6)) != list(EpisodeSampler(Letters(), 1, 2, seed=5))


def test_ranks_get_whole_episodes_equally_many_and_together_all():
    whole = episodes(EpisodeSampler(Letters(), 1, 2, seed=0))
    shares = []
    for rank in range(2):
        sampler = EpisodeSampler(Letters(), 1, 2, seed=0)
        sampler.rank, sampler.world_size = rank, 2
        shares.append(episodes(sampler))
        assert len(sampler) == 9
    assert [shares[i % 2][i // 2] for i in range(6)] == [*whole, whole[0]]


def test_a_pass_entered_at_an_episode_goes_on_identically():
    def make():
        return ResumableSampler(Letters(), seed=3, sampler=dict(type='EpisodeSampler', shots=1, queries=2))

    whole, late = make(), make()
    for sampler in (whole, late):
        sampler.set_epoch(4)
    late.start_at(2 * 3)
    order, rest = list(whole), list(late)
    assert rest == order[6:] and [i.position for i in rest] == list(range(6, 15))


def test_too_few_samples_for_an_episode_are_an_error_with_the_largest_category():
    with pytest.raises(ValueError, match=r'1 \+ 9 samples.*found at most 9'):
        EpisodeSampler(Letters(), shots=1, queries=9)


def test_digits_can_be_chosen_and_tell_their_category():
    dataset = DigitsKeypointDataset(split='all', labels=[7, 8, 9], pipeline=[])
    found = [dataset.get_cat_ids(i) for i in range(len(dataset))]
    assert sorted({label for label, in found}) == [7, 8, 9] and len(found) == 533
    with pytest.raises(ValueError, match=r'digits from 0 to 9, found \[10\]'):
        DigitsKeypointDataset(split='train', labels=[10], pipeline=[])


# The network ---------------------------------------------------------------------

@pytest.fixture
def net():
    torch.manual_seed(0)
    return EpisodicKeypointNet(shots=1, queries=2, channels=(4, 4, 8, 8, 8, 8), feature_channels=8)


def batch(episodes=2, keypoints=3):
    torch.manual_seed(1)
    samples = []
    for i in range(3 * episodes):
        sample = BaseDataElement(metainfo=dict(input_box=(0, 0, 32, 32), id=i))
        sample.gt_fields = PixelData(heatmaps=torch.rand(keypoints, 16, 16))
        sample.gt_instance_labels = InstanceData(keypoint_weights=torch.ones(1, keypoints).numpy())
        samples.append(sample)
    return torch.randn(3 * episodes, 3, 32, 32), samples


def test_only_queries_are_predicted(net):
    predicted = net.eval()(*batch(), 'predict')
    assert [sample.id for sample in predicted] == [1, 2, 4, 5]
    assert predicted[0].pred_instances.keypoints.shape == (1, 3, 2)


@torch.no_grad()
def test_key_points_in_another_order_are_found_in_that_order(net):
    inputs, samples = batch()
    before, _ = net._match(net(inputs), samples)
    for sample in samples:
        sample.gt_fields = PixelData(heatmaps=sample.gt_fields.heatmaps[[2, 0, 1]])
    after, _ = net._match(net(inputs), samples)
    torch.testing.assert_close(after, before[:, [2, 0, 1]])


@torch.no_grad()
def test_an_episode_is_judged_by_its_own_support(net):
    inputs, samples = batch()
    before, _ = net._match(net(inputs), samples)
    samples[0].gt_fields = PixelData(heatmaps=torch.rand(3, 16, 16))
    after, _ = net._match(net(inputs), samples)
    assert torch.equal(after[2:], before[2:]) and not torch.allclose(after[:2], before[:2], rtol=1e-3)


def test_every_parameter_learns_from_the_queries(net):
    net(*batch(), 'loss')['heatmap_loss'].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_batch_of_half_an_episode_is_refused(net):
    inputs, samples = batch()
    with pytest.raises(ValueError, match='whole episodes of 3 pictures, found a batch of 4'):
        net(inputs[:4], samples[:4], 'loss')
