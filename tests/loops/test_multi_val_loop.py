"""Several validation loaders: names, values, what hooks see, and what is refused."""

from __future__ import annotations

import signal

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmckpt.hooks import PreemptionHook, ValLossHook


class Numbers(torch.utils.data.Dataset):
    """Numbers from a first one on."""

    def __init__(self, first, count):
        self.metainfo = dict(first=first)
        self.values = [float(value) for value in range(first, first + count)]

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return dict(values=self.values[index])


class Mean(BaseMetric):
    """Mean of the numbers, and what the data set says of itself."""

    default_prefix = ''

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results), first=self.dataset_meta['first'], count=len(results))


class Echo(BaseModel):
    """Gives back what it is given; its loss is the mean."""

    def forward(self, values, mode='tensor'):
        values = torch.as_tensor(values)
        return dict(loss=values.mean()) if mode == 'loss' else values.tolist()


class Seen(Hook):
    """Notes the events of a validation."""

    def __init__(self):
        self.events, self.batches = [], []

    def before_val_epoch(self, runner):
        self.events.append('before')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches.append(batch_idx)

    def after_val_epoch(self, runner, metrics=None):
        self.events.append(dict(metrics))


def loader(first, count, batch_size=2):
    return torch.utils.data.DataLoader(Numbers(first, count), batch_size=batch_size)


def make_runner(tmp_path, loaders, **val_cfg):
    runner = Runner(Echo(), str(tmp_path), val_dataloader=loaders, val_evaluator=[Mean()],
                    val_cfg=dict(type='mmckpt.MultiValLoop', **val_cfg), log_level='ERROR',
                    experiment_name=tmp_path.name)
    seen = Seen()
    runner.register_hook(seen)
    return runner, seen


@pytest.mark.parametrize('val_cfg, names', [
    ({}, ('0/mean', '1/mean')),
    (dict(names=['near', 'far']), ('near/mean', 'far/mean')),
    (dict(metric_name='depth-{metric}{index}'), ('depth-mean0', 'depth-mean1')),
])
def test_each_loaders_metrics_have_its_name_or_index(tmp_path, val_cfg, names):
    runner, _ = make_runner(tmp_path, [loader(0, 3), loader(10, 5)], **val_cfg)
    metrics = runner.val()
    assert [metrics[name] for name in names] == [1.0, 12.0]


def test_each_loader_is_evaluated_by_itself_with_its_own_metainfo(tmp_path):
    metrics = make_runner(tmp_path, [loader(0, 3), loader(10, 5)])[0].val()
    assert {name: value for name, value in metrics.items() if 'mean' not in name} == {
        '0/first': 0, '0/count': 3, '1/first': 10, '1/count': 5}


def test_hooks_see_one_validation_with_batches_that_count_on_and_all_metrics(tmp_path):
    runner, seen = make_runner(tmp_path, [loader(0, 3), loader(10, 5)])
    metrics = runner.val()
    assert seen.batches == [0, 1, 2, 3, 4] and len(runner.val_dataloader) == 5
    assert seen.events == ['before', metrics]


def test_the_validation_loss_is_the_mean_over_the_samples_of_all_loaders(tmp_path):
    runner, _ = make_runner(tmp_path, [loader(0, 3), loader(10, 5)])
    runner.register_hook(ValLossHook())
    assert runner.val()['loss'] == pytest.approx((0 + 1 + 2 + 10 + 11 + 12 + 13 + 14) / 8)


def test_configs_of_loaders_are_built(tmp_path):
    config = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=Numbers(4, 2))
    assert make_runner(tmp_path, [config, loader(0, 1)])[0].val()['0/mean'] == 4.5


@pytest.mark.parametrize('val_cfg', [dict(names=['a']), dict(names=['a', 'a'])])
def test_each_loader_needs_a_name_of_its_own(tmp_path, val_cfg):
    with pytest.raises(ValueError, match='a name of its own for each, but got 2 loaders'):
        make_runner(tmp_path, [loader(0, 1), loader(1, 1)], **val_cfg)[0].val()


@pytest.mark.parametrize('template', ['{metric}', '{name}', '{index}/{metrik}', 'AP'])
def test_a_template_that_would_mix_metrics_up_is_refused(tmp_path, template):
    with pytest.raises(ValueError, match='must hold {metric} and {name} or {index}'):
        make_runner(tmp_path, [loader(0, 1)], metric_name=template)[0].val()


def test_a_single_loader_is_an_error_that_shows_the_list(tmp_path):
    with pytest.raises(TypeError, match=r'val_dataloader=\[dict'):
        make_runner(tmp_path, loader(0, 1))[0].val()


def test_no_loader_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='at least one loader'):
        make_runner(tmp_path, [])[0].val()


def test_the_workers_of_every_loader_leave_signals_to_the_training(tmp_path):
    """SIGTERM to a process group would kill the workers first."""
    train = torch.utils.data.DataLoader(Numbers(0, 2))
    several = [torch.utils.data.DataLoader(Numbers(0, 2), num_workers=1) for _ in range(2)]
    runner = Runner(
        Echo(), str(tmp_path), train_dataloader=train, train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), val_dataloader=several, val_evaluator=[Mean()],
        val_cfg=dict(type='mmckpt.MultiValLoop'), log_level='ERROR', experiment_name=tmp_path.name)
    runner.train_loop  # noqa: B018 - builds it
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    PreemptionHook().before_run(runner)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert all(loader.worker_init_fn is not None for loader in several)
