"""The cause of a NaN is found in the batch, the module or the gradient, and can be replayed."""

import itertools
import json
import random
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forked import on_two_ranks
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from test_reactions import MONITOR, OURS, Plant, SteepRoot, same, stats, train
from toy_runner import Net, Points, make_runner, read_log

from mmckpt.cli.main import main
from mmckpt.errors import StoppedByMonitor
from mmckpt.hooks.nan_cases import NanCases, samples_of
from mmckpt.hooks.nan_locator import locate, non_finite_entries, undisturbed

BF16 = dict(type='mmckpt.CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=.05, momentum=.9))


class Exp(torch.nn.Module):
    """Overflows bfloat16 for large inputs."""

    def forward(self, x):
        return (x.to(torch.bfloat16) / 2).exp().float()


@MODELS.register_module()
class Overflowing(Net):
    """A net with a module that overflows for large inputs."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.Identity()
        self.drop = torch.nn.Sequential(torch.nn.Dropout(.5), Exp())


class LogOfLoss(Net):
    """A loss term that is not finite although every module's output is."""

    def forward(self, inputs, target=None, mode='tensor'):
        out = super().forward(inputs, target, mode)
        if mode == 'loss':
            out['log_loss'] = torch.log(inputs.abs().sum()) * 1e-6
        return out


@pytest.mark.parametrize('model, scale, kind, name, text', [
    (Net, float('nan'), 'batch', 'inputs[0]', 'inputs[0] of the batch is nan'),
    (Overflowing, 1000., 'module', 'drop.1', 'drop.1 (Exp): inf in float32'),
    (LogOfLoss, 0., 'loss', 'log_loss', 'loss term log_loss is -inf, but no module has such an output'),
    (SteepRoot, 0., 'gradient', 'head.weight', 'the gradient of head.weight is nan'),
])
@pytest.mark.parametrize('on_nan', ['warn', 'skip'])
def test_the_first_cause_is_named(model, scale, kind, name, text, on_nan, tmp_path):
    train(tmp_path, Plant([5], scale), on_nan=on_nan, locate_nan=True, model=model(), epochs=2, optim_wrapper=BF16)
    found = stats(tmp_path)['located_nan'][0]
    assert (found['iter'], found['kind'], found['name']) == (5, kind, name)
    assert text in found['text'] and text in read_log(tmp_path)
    assert '- cause at iter 5: ' in (tmp_path / 'training_stats.txt').read_text()


def test_looking_leaves_no_trace_in_the_training(tmp_path):
    plants = [Plant([5]), Plant([5])]
    draws = []
    for plant, locate_nan in zip(plants, (False, True)):
        random.seed(1), np.random.seed(1)
        train(tmp_path / str(locate_nan), plant, on_nan='skip', locate_nan=locate_nan)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert all(same(plants[0].after[step], plants[1].after[step]) for step in range(1, 10))
    assert draws[0] == draws[1]


def test_a_bad_batch_inside_an_accumulation_window_is_the_one_that_is_kept(tmp_path):
    sgd = dict(optimizer=dict(type='SGD', lr=.05, momentum=.9), accumulative_counts=3)
    plant = Plant([4])
    train(tmp_path, plant, on_nan='skip', locate_nan=True, optim_wrapper=sgd)
    kept = torch.load(tmp_path / 'nan_6/batch.pth', weights_only=True)
    assert kept['inputs'].isnan().all()
    assert stats(tmp_path)['located_nan'][0]['kind'] == 'batch'


def test_the_disk_is_bounded_and_the_first_cases_stay(tmp_path):
    train(tmp_path, Plant([4, 6, 7, 8]), on_nan='skip', locate_nan=dict(max_cases=2), checkpoint=OURS)
    assert sorted(path.name for path in tmp_path.glob('nan_*')) == ['nan_4', 'nan_6']
    assert len(stats(tmp_path)['located_nan']) == 4
    facts = json.loads((tmp_path / 'nan_4/case.json').read_text())
    assert facts['last_checkpoint'].endswith('epoch_1.pth') and facts['seed'] == 7


def test_what_was_found_is_still_told_after_a_resume(tmp_path):
    train(tmp_path, Plant([2]), on_nan='skip', locate_nan=True, checkpoint=OURS)
    train(tmp_path, Plant([11]), on_nan='skip', locate_nan=True, checkpoint=OURS, epochs=4, resume=True)
    assert [found['iter'] for found in stats(tmp_path)['located_nan']] == [2, 11]


class Talks(Net):
    """Has a collective of the default group and one of a group of its own in the forward pass."""

    def __init__(self):
        super().__init__()
        self.rank, self.group, self.group_size, self.passes = dist.get_rank(), dist.group.WORLD, 2, 0

    def forward(self, inputs, target=None, mode='tensor'):
        self.passes += 1
        if dist.get_world_size() == 1:
            # Looking for the cause: rank 1 does not get as far as rank 0.
            assert self.group_size == 1
            if self.rank == 1:
                raise RuntimeError('no memory left')
        for group in (None, self.group):
            dist.all_reduce(inputs.detach().sum(), group=group)
        return super().forward(inputs, target, mode)


def stop_at_a_nan(folder):
    """A rank: rank 1 meets a NaN, both look for it and stop."""
    model = Talks()
    told = [sys.executable, '-c', 'import sys; open(sys.argv[1], "a").write(sys.stdin.read() + chr(10))',
            str(folder / 'told')]
    monitor = dict(type='mmckpt.TrainingMonitorHook', on_nan='stop', locate_nan=True, report=False,
                   notify=[dict(type='command', command=told)])
    with pytest.raises(StoppedByMonitor):
        make_runner(folder, [{}] * 3, [monitor, Plant([2] if model.rank else [])], model=model).train()
    assert (model.group_size, dist.get_world_size()) == (2, 2) and model.group is dist.group.WORLD
    (folder / f'stopped_{model.rank}').write_text(str(model.passes))


def test_a_rank_whose_search_fails_leaves_no_other_waiting_and_the_stop_is_told_once(tmp_path):
    on_two_ranks(stop_at_a_nan, tmp_path)
    assert [(tmp_path / f'stopped_{rank}').read_text() for rank in (0, 1)] == ['3', '3']
    (found,) = stats(tmp_path)['located_nan']
    assert found['kind'] == 'batch' and found['text'].startswith('[rank 1] inputs[0] of the batch is nan')
    assert 'no memory left' in found['text']
    assert (tmp_path / 'told').read_text().count('Training stopped by the monitor') == 1


def test_a_batch_that_cannot_be_kept_does_not_stop_the_training(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmckpt.hooks.nan_cases.write_temporary', full)
    plant = Plant([5])
    train(tmp_path, plant, on_nan='skip', locate_nan=True)
    assert len(plant.after) == 9 and 'could not be kept: OSError' in read_log(tmp_path)
    assert not list(tmp_path.glob('*nan_*'))


@MODELS.register_module()
class WithExtraState(Net):
    """Keeps something in its checkpoint that is no tensor, and which may be impossible to copy."""

    extra = {'steps': 3}

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        assert state == {'steps': 3}


class Counted(Plant):
    """Notes which iterations there were."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.after[runner.iter + 1] = True


def test_state_that_is_no_tensor_belongs_to_a_case(tmp_path):
    case = case_of(tmp_path, 'WithExtraState', Counted([5]))
    assert main(['replay', str(case)]) == 0


def test_a_search_that_fails_does_not_stop_the_training(tmp_path):
    model, plant = WithExtraState(), Counted([5])
    model.extra = (number for number in range(3))
    train(tmp_path, plant, on_nan='skip', locate_nan=True, model=model)
    assert len(plant.after) == 9 and stats(tmp_path)['skipped_updates'] == 1
    assert 'iter 5 could not be looked for: TypeError' in read_log(tmp_path)


@pytest.mark.parametrize('inputs', [torch.zeros(4, 3, 8, 8), [torch.zeros(3, 8, 8) for _ in range(4)]])
def test_the_sample_of_a_batch_is_counted_in_tensors_and_lists(inputs):
    inputs[2][1, 4, 4] = float('inf')
    assert list(non_finite_entries(dict(inputs=inputs))) == [('inputs[2]', 'inf')]


def test_samples_are_named_by_their_data_elements():
    samples = [BaseDataElement(metainfo=dict(img_path=f'{i}.png', img_id=i, scale=2.)) for i in range(2)]
    assert samples_of(dict(inputs=[0, 0], data_samples=samples)) == [
        dict(img_path='0.png', img_id=0), dict(img_path='1.png', img_id=1)]


def test_the_sample_with_the_nan_is_named(tmp_path):
    class Named(Points):
        def __getitem__(self, i):
            return {**super().__getitem__(i), 'sample_id': i}

    class Takes(Net):
        def forward(self, inputs, target=None, mode='tensor', sample_id=None):
            return super().forward(inputs, target, mode)

    data = dict(dataset=Named(12), batch_size=4, collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=False))
    runner = make_runner(tmp_path, [{}] * 3, [dict(type=MONITOR, locate_nan=True, on_nan='skip'), Plant([2])],
                         model=Takes(), train=data, val=data)
    runner.train()
    assert 'inputs[0] of the batch is nan' in read_log(tmp_path) and 'That sample is sample_id=4.' in read_log(tmp_path)


@pytest.mark.parametrize('locate_nan, text', [
    (dict(max_casess=1), "locate_nan has no argument 'max_casess'"), (dict(max_cases=-1), 'at least 0, but got -1')])
def test_wrong_arguments_are_refused(locate_nan, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        make_runner(tmp_path, [], [dict(type=MONITOR, locate_nan=locate_nan)])


def test_a_mask_of_minus_infinity_is_passed_over():
    class Masked(Net):
        def __init__(self):
            super().__init__()
            self.mask, self.soft, self.late = Mask(), torch.nn.Softmax(1), Exp()

        def forward(self, inputs, target=None, mode='tensor'):
            weights = self.soft(self.mask(inputs))
            return dict(loss=self.late(weights.sum(1) * 1e3).mean() * self.head.weight.sum())

    class Mask(torch.nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(4) < 1, x, -torch.inf)

    located = locate(Masked(), None, dict(inputs=torch.ones(3, 4)))
    assert (located.kind, located.name) == ('module', 'late')


def test_gradients_and_buffers_are_the_same_objects_afterwards():
    net = Net()
    net.head.weight.grad = torch.ones(1, 4)
    before, mean = net.head.weight.grad, net.norm.running_mean.clone()
    with undisturbed(net):
        locate(net, None, dict(inputs=torch.randn(3, 4), target=torch.ones(3, 1)))
    assert net.head.weight.grad is before and torch.equal(before, torch.ones(1, 4))
    assert torch.equal(net.norm.running_mean, mean)


# Replay --------------------------------------------------------------------------

_numbers = itertools.count()


@MODELS.register_module()
class ReplayNet(SteepRoot):
    """Registered, so that a config can name it."""


def case_of(work_dir, model, plant, **beside):
    from mmengine.config import Config

    runner = make_runner(work_dir, [{}] * 2, [dict(type=MONITOR, on_nan='skip', locate_nan=True), plant],
                         model=MODELS.get(model)(**beside), epochs=2,
                         optim_wrapper=BF16, cfg=Config(dict(model=dict(type=model), optim_wrapper=BF16, **beside)))
    runner.train()
    return next(work_dir.glob('nan_*'))


@pytest.mark.parametrize('model, scale, first', [
    ('Overflowing', 1000., 'first: module drop.1'), ('ReplayNet', 0., 'first: gradient head.weight'),
    ('ReplayNet', float('nan'), 'first: batch inputs[0]')])
def test_a_case_is_replayed_from_its_files(model, scale, first, tmp_path, capsys):
    case = case_of(tmp_path, model, Plant([5], scale))
    assert f'mmckpt replay {case}' in (case / 'README.txt').read_text()
    assert main(['replay', str(case)]) == 0
    assert first in capsys.readouterr().out.splitlines()


def test_a_case_that_is_finite_now_has_another_status(tmp_path, capsys):
    case = case_of(tmp_path, 'ReplayNet', Plant([5]))
    batch = torch.load(case / 'batch.pth', weights_only=True)
    torch.save({key: torch.ones_like(value) for key, value in batch.items()}, case / 'batch.pth')
    assert main(['replay', str(case)]) == 1
    assert 'first: nothing' in capsys.readouterr().out


@MODELS.register_module()
class Shifts(BaseDataPreprocessor):
    """Without it the batch of the case is finite."""

    def forward(self, data, training=False):
        return {key: value / (value != 0) for key, value in super().forward(data, training).items()}


@MODELS.register_module()
class Preprocessed(Net):
    """Takes the preprocessor that its config names, as models of the projects do."""

    def __init__(self, data_preprocessor=None):
        super().__init__()
        self.data_preprocessor = MODELS.build(data_preprocessor or dict(type='BaseDataPreprocessor'))


def test_a_preprocessor_beside_the_model_in_the_config_is_replayed(tmp_path):
    case = case_of(tmp_path, 'Preprocessed', Plant([5], 0.), data_preprocessor=dict(type='Shifts'))
    assert main(['replay', str(case)]) == 0


def test_a_case_from_a_gpu_is_replayed_without_one(tmp_path, capsys, monkeypatch):
    case = case_of(tmp_path, 'ReplayNet', Plant([5]))
    batch = torch.load(case / 'batch.pth', weights_only=True)
    # What torch writes of a tensor that lies on a GPU.
    monkeypatch.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
    torch.save(batch, case / 'batch.pth')
    assert main(['replay', str(case), '--device', 'cpu']) == 0
    assert 'first: batch inputs[0]' in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize('damage, text', [
    (lambda case: (case / 'case.json').unlink(), 'is no case'),
    (lambda case: (case / 'case.json').write_text('{'), 'cannot be read'),
    (lambda case: (case / 'case.json').write_text((case / 'case.json').read_text().replace(
        '"plain_batch": true', '"plain_batch": false')), '--trust-batch'),
    (lambda case: (case / 'config.py').write_text('a = 1'), 'has no model'),
])
def test_what_cannot_be_replayed_says_why(damage, text, tmp_path, capsys):
    case = case_of(tmp_path, 'ReplayNet', Plant([5]))
    damage(case)
    assert main(['replay', str(case)]) == 2
    assert text in capsys.readouterr().err


def test_a_number_of_cases_is_checked():
    with pytest.raises(ValueError, match='whole number'):
        NanCases(max_cases=1.5)
