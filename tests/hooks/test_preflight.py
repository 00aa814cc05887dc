"""What a resume says before it starts, and which resumes it refuses; on real Runners and files."""

from __future__ import annotations

import functools
import sys
import uuid
from pathlib import Path

import mmengine.runner.runner
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from test_checkpoint_hook import metrics, ours, train
from toy_runner import Net, make_runner, read_log

from mmckpt.cli.config import merge_options
from mmckpt.cli.dry_run import dry_run
from mmckpt.cli.resume import ResumePoint
from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.state.config_diff import ConfigChange
from mmckpt.state.preflight import Harm, judge_config

PROJECT = Path(__file__).parents[1] / 'integration/project'
sys.path.insert(0, str(PROJECT))


@pytest.fixture(scope='module', autouse=True)
def known_environment():
    """Every Runner asks compilers and drivers for their versions, for a second; the answer stays the same."""
    patch = pytest.MonkeyPatch()
    patch.setattr(mmengine.runner.runner, 'collect_env', functools.lru_cache(mmengine.runner.runner.collect_env))
    yield
    patch.undo()


def config(**options):
    cfg = Config.fromfile(PROJECT / 'tiny_epochs.py')
    merge_options(cfg, {'experiment_name': uuid.uuid4().hex, 'train_cfg.max_epochs': 2,
                        **{k.replace('__', '.'): v for k, v in options.items()}})
    return cfg


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of the tiny project, at the end of its second and last epoch."""
    cfg = config()
    cfg.work_dir = str(tmp_path_factory.mktemp('preflight'))
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir) / 'epoch_2.pth'


def look(path, **options):
    return dry_run(config(**options), ResumePoint(str(path), 3))


CHANGES = {
    'nothing': ({}, Harm.NOTHING, None),
    'a log level': (dict(log_level='DEBUG'), Harm.NOTHING, "= config    log_level added: 'DEBUG'"),
    'a longer training': (dict(train_cfg__max_epochs=5), Harm.EXACTNESS,
                          'ReduceOnPlateauLR[1].end stays 2 as in the file, and it does nothing from there on; the 5'),
    'a learning rate': (dict(optim_wrapper__optimizer__lr=.01), Harm.EXACTNESS,
                        'lr of 1 group(s) stays 0.003 as in the file; the 0.01 of the config is not used'),
    'a schedule': (dict(param_scheduler__0__end=12), Harm.EXACTNESS, 'LinearLR[0].end stays 8 as in the file'),
    'a schedule more': (dict(param_scheduler__2__type='ConstantLR'), Harm.EXACTNESS, '2 in the file, 3 now'),
    'a batch size': (dict(train_dataloader__batch_size=16), Harm.EXACTNESS,
                     'batch     32 x 1 rank(s) = 32 -> 16 x 1 rank(s) = 16: other samples in a step'),
    'a seed': (dict(randomness__seed=4), Harm.EXACTNESS, 'seed      3 -> 4: MMEngine goes on with the 3'),
    'no stream hook': (dict(custom_hooks__1__type='EmptyCacheHook'), Harm.EXACTNESS, 'lacks mmckpt.RNGStateHook'),
    'a class order': (dict(train_dataloader__dataset__metainfo__classes=tuple('1023456789')), Harm.EXACTNESS,
                      "metainfo  classes: ('0', '1', '2'"),
    'persistent workers': (dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True),
                           Harm.EXACTNESS, 'wrap the data set in mmckpt.DeterministicDataset'),
    'a layer width': (dict(model__width=9), Harm.RESUME, 'body.0.weight: (8, 1, 3, 3) in the file, (9, 1, 3, 3)'),
    'an optimizer': (dict(optim_wrapper__optimizer=dict(type='SGD', lr=.01, _delete_=True)), Harm.RESUME,
                     'SGD needs momentum, dampening, nesterov, which the file does not hold'),
    'parameter groups': (dict(optim_wrapper__paramwise_cfg__bias_lr_mult=2.), Harm.RESUME,
                         'expected 6 parameter group(s) of 1, 1, 1, 1, 1, ... parameters, found 1 parameter group(s)'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_change_is_named_and_judged(change, checkpoint):
    options, harm, said = CHANGES[change]
    before = checkpoint.read_bytes()
    found = look(checkpoint, **options)
    assert found.harm is harm, found
    if said is None:
        assert str(found).splitlines()[1:] == ['  verdict: exact: nothing has changed']
    else:
        assert said in str(found)
    assert checkpoint.read_bytes() == before


def edited(checkpoint, path, edit):
    content = torch.load(checkpoint, weights_only=True)
    edit(content)
    torch.save(content, path)
    return path


FILES = {
    'another torch': (lambda c: c['mmckpt']['facts'].update(torch='2.6.0'), 'machine   torch: 2.6.0 -> '),
    'two ranks': (lambda c: c['mmckpt']['facts'].update(world_size=2, batch_size=16),
                  '16 x 2 rank(s) = 32 -> 32 x 1 rank(s) = 32: the same samples in a step'),
    'another data set': (lambda c: c['mmckpt']['facts'].update(samples=9), 'samples in the training set: 9 -> 256'),
    'no streams': (lambda c: c['mmckpt'].pop('rng'), 'the file holds no random streams'),
    'no optimizer': (lambda c: c.pop('optimizer'), 'the file holds no state of it'),
    'no schedulers': (lambda c: c.pop('param_schedulers'), 'the file holds no scheduler state'),
    'no EMA': (lambda c: c.pop('ema_state_dict'), 'the file holds no EMA weights'),
    'no state of a hook': (lambda c: c['mmckpt']['hooks'].pop('EarlyStoppingHook'), 'no state of EarlyStoppingHook'),
    'no config': (lambda c: c['meta'].pop('cfg'), 'the file holds no readable config'),
    'a config that is none': (lambda c: c['meta'].update(cfg='a: 1)'), 'the file holds no readable config'),
    'inside an epoch': (lambda c: c['meta'].update(epoch=1, iter=11), 'iteration 11 lies inside an epoch'),
    'a buffer less': (lambda c: c['state_dict'].pop('body.1.running_mean'), 'body.1.running_mean: not in the file'),
    'a buffer more': (lambda c: c['state_dict'].update(old=torch.ones(1)), 'old: in the file, unknown to the model'),
    'a version': (lambda c: c['meta'].update(mmckpt_version='0.0.1'), 'mmckpt: 0.0.1 -> '),
    'nothing of ours': (lambda c: c.pop('mmckpt'), 'the file holds no random streams'),
}


@pytest.mark.parametrize('file', FILES)
def test_what_a_file_lacks_is_named(file, checkpoint, tmp_path):
    edit, said = FILES[file]
    found = look(edited(checkpoint, tmp_path / 'edited.pth', edit))
    assert said in str(found)
    assert found.harm is (Harm.NOTHING if file == 'a version' else Harm.EXACTNESS)


@MODELS.register_module()
class TwinNet(Net):
    """Two layers of one shape, made in one order or the other."""

    def __init__(self, swapped=False):
        super().__init__()
        for name in ('right', 'left') if swapped else ('left', 'right'):
            self.add_module(name, torch.nn.Linear(4, 4))


def test_moments_are_not_given_to_other_parameters_of_the_same_shape(tmp_path):
    train(tmp_path, metrics('AP', .3), ours(), model=TwinNet())
    with pytest.raises(IncompatibleCheckpointError, match='other parameters, or in another order'):
        make_runner(tmp_path, metrics('AP', .5), checkpoint=ours(), epochs=2, resume=True,
                    model=TwinNet(swapped=True)).train()


def test_a_resume_that_does_not_fit_is_refused_before_anything_is_loaded(checkpoint, tmp_path):
    cfg = config(optim_wrapper__paramwise_cfg__bias_lr_mult=2.)
    cfg.work_dir, cfg.resume, cfg.load_from = str(tmp_path), True, str(checkpoint)
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    with pytest.raises(IncompatibleCheckpointError, match='(?s)does not fit .*leave out --resume and pass '):
        runner.train()
    assert runner.iter == 0
    assert any(not torch.equal(value, torch.load(checkpoint)['state_dict'][name]) for name, value in before.items())


def test_a_run_with_several_groups_of_parameters_resumes_to_the_bit(tmp_path):
    runs = []
    for name, start in (('straight', None), ('resumed', tmp_path / 'straight/epoch_1.pth')):
        cfg = config(optim_wrapper__paramwise_cfg__bias_lr_mult=2.)
        cfg.work_dir, cfg.resume, cfg.load_from = str(tmp_path / name), start is not None, start and str(start)
        runs.append(Runner.from_cfg(cfg))
        runs[-1].train()
    assert len(runs[1].optim_wrapper.optimizer.param_groups) > 1 and runs[1].epoch == 2
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_resume_logs_the_verdict_first(tmp_path):
    rng = [dict(type='mmckpt.RNGStateHook')]
    train(tmp_path, metrics('AP', .3), ours(), hooks=rng)
    make_runner(tmp_path, metrics('AP', .5), rng, checkpoint=ours(), epochs=2, resume=True).train()
    log = read_log(tmp_path)
    assert 0 < log.index('Resume preflight of ') < log.index('verdict: exact') < log.index('Resumed from ')


@pytest.mark.parametrize('path, owner, seeded, harm', [
    ('train_dataloader.num_workers', '', True, Harm.NOTHING),
    ('train_dataloader.num_workers', '', False, Harm.EXACTNESS),
    ('train_dataloader.dataset.pipeline[1]', 'Flip', True, Harm.EXACTNESS),
    ('val_dataloader.batch_size', '', True, Harm.EXACTNESS),
    ('test_dataloader.batch_size', '', True, Harm.NOTHING),
    ('default_hooks.checkpoint.interval', 'CheckpointHook', True, Harm.NOTHING),
    ('custom_hooks[2].momentum', 'EMAHook', True, Harm.EXACTNESS),
    ('env_cfg.mp_cfg', '', True, Harm.NOTHING),
    ('env_cfg.cudnn_benchmark', '', True, Harm.EXACTNESS),
    ('model_name', '', True, Harm.NOTHING)])
def test_only_what_trains_counts(path, owner, seeded, harm):
    [found] = judge_config([ConfigChange(path, '1', '2', owner)], seeded)
    assert found.harm is harm


def test_where_a_run_lies_is_no_change():
    paths = ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name')
    assert judge_config([ConfigChange(path, '1', '2', '') for path in paths], True) == []
