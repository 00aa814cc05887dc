"""Scenario E, depth on two gloo ranks: loss terms, schedule, clipping, files, and wrapped against unwrapped nets."""

import json
import re
import shutil

import pytest
import torch
from digests import digests
from forked import PROJECT, free_port, log_of, train_forked
from launched import launch

from mmckpt.demo.motorcycle import load_motorcycle

CONFIG = PROJECT.parents[2] / 'configs/depth_ddp/unet_sparse_2ranks.py'
# Three iterations an epoch on two ranks, six on one; save interval, losses, hooks and metrics are the config's.
SHORT = dict(train_cfg__max_epochs=6, train_dataloader__batch_size=2, train_dataloader__dataset__dataset__indices=12,
             param_scheduler__0__step_size=2, model__widths=[4, 8, 8, 8], custom_hooks__5__interval=1)
TERMS = ('loss', 'loss_adepth', 'loss_rdepth', 'loss_rgrad')


def as_options(overrides):
    return [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()]


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    """Work directory and output of a run on two ranks."""
    work_dir = tmp_path_factory.mktemp('depth') / 'run'
    return work_dir, launch(2, CONFIG, work_dir, *as_options(SHORT))


@pytest.fixture(scope='module')
def scalars(two_ranks):
    """What rank 0 logged, by name."""
    state = torch.load(two_ranks[0] / 'epoch_6.pth', weights_only=True)
    return {name: history.data[0].tolist() for name, history in state['message_hub']['log_scalars'].items()}


@pytest.mark.slow
def test_every_fifth_epoch_and_the_last_are_saved_by_one_rank_that_also_logs(two_ranks):
    work_dir, out = two_ranks
    assert {path.name for path in work_dir.glob('epoch_*.pth')} >= {'epoch_5.pth', 'epoch_6.pth'}
    assert not {path.name for path in work_dir.glob('epoch_*.pth')} & {'epoch_3.pth', 'epoch_4.pth'} - bests(work_dir)
    assert len(list(work_dir.glob('2*/2*.log'))) == 1
    assert len(re.findall(r'INFO - Iter \[18\] loss: ', out)) == 1
    index = json.loads((work_dir / 'mmckpt_index.json').read_text())
    assert [attempt['why'] for attempt in index['attempts']] == ['finished']


def bests(work_dir):
    """Plain names of the steps of bests: as with stock, these have a file of that name too."""
    return {path.name.replace('best_abs_rel_', '') for path in work_dir.glob('best_abs_rel_*.pth')}


@pytest.mark.slow
def test_each_term_is_logged_and_the_total_is_their_sum(two_ranks, scalars):
    lines = re.findall(r'Iter \[\d+\] loss: ([\d.]+), loss_adepth: ([\d.]+), loss_rdepth: ([\d.]+), '
                       r'loss_rgrad: ([\d.]+)', two_ranks[1])
    assert len(lines) == 18
    for total, *terms in lines:
        assert float(total) == pytest.approx(sum(map(float, terms)), abs=3e-6)
    assert all(len(scalars[f'train/{name}']) == 18 for name in TERMS)


@pytest.mark.slow
def test_the_rate_falls_in_steps_and_the_norm_of_gradients_is_followed(scalars):
    rates = scalars['train/lr']
    assert rates[::3] == pytest.approx([2e-3, 2e-3, 6e-4, 6e-4, 1.8e-4, 1.8e-4])
    norms = scalars['train/grad_norm']
    assert len(norms) == 18 and all(0 < norm < 1e3 for norm in norms)


@pytest.mark.slow
def test_one_process_gets_the_metrics_of_two_ranks_from_their_file(two_ranks, tmp_path, capfd):
    """Seven windows: a rank repeats one, which must not count twice."""
    from mmckpt.cli.main import main
    found = tmp_path / 'found.json'
    assert main(['test', str(CONFIG), str(two_ranks[0] / 'epoch_6.pth'), '--work-dir', str(tmp_path / 'test'), '--out',
                 str(found), '--cfg-options', 'experiment_name=depth_ddp_test', *as_options(SHORT)]) == 0
    record = next(r for r in json.loads((two_ranks[0] / 'mmckpt_index.json').read_text())['records']
                  if r['name'] == 'epoch_6.pth')
    metrics = json.loads(found.read_text())
    assert set(metrics) == {'rmse', 'mae', 'abs_rel', 'sq_rel', 'delta1', 'delta2', 'delta3'}
    assert metrics == pytest.approx({name: record['metrics'][name] for name in metrics}, rel=1e-6)


# Wrapped and unwrapped ----------------------------------------------------------


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files of epoch 5 by the names of their weights: a plain net's, and a DDP wrapper's with ``module.``."""
    load_motorcycle()
    work_dir = tmp_path_factory.mktemp('depth_files') / 'run'
    assert train_forked(CONFIG, work_dir, **SHORT) == 0, log_of(work_dir)[-3000:]
    plain = work_dir / 'epoch_5.pth'
    checkpoint = torch.load(plain, weights_only=True)
    checkpoint['state_dict'] = {f'module.{name}': value for name, value in checkpoint['state_dict'].items()}
    wrapped = work_dir.parent / 'wrapped.pth'
    torch.save(checkpoint, wrapped)
    return {'': plain, 'module.': wrapped}, work_dir / 'epoch_6.pth'


@pytest.mark.parametrize('launcher', ['none', 'pytorch'])
@pytest.mark.parametrize('names', ['', 'module.'])
def test_wrapped_and_unwrapped_nets_go_on_from_each_others_files(files, launcher, names, tmp_path, monkeypatch):
    sources, expected = files
    work_dir, source = tmp_path / 'run', tmp_path / 'given.pth'
    shutil.copy(sources[names], source)
    for variable, value in dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1',
                                MASTER_PORT=free_port()).items():
        monkeypatch.setenv(variable, str(value))
    assert train_forked(CONFIG, work_dir, resume=True, load_from=source, launcher=launcher, **SHORT) == 0, (
        log_of(work_dir)[-3000:])
    log = log_of(work_dir)
    assert ('Distributed training: True' in log) == (launcher == 'pytorch')
    # The first iteration is that after the file's.
    assert re.findall(r'Iter \[(\d+)\] ', log) == [str(i) for i in range(31, 37)]
    assert digests(work_dir / 'epoch_6.pth') == digests(expected)


def test_killed_inside_an_epoch_it_resumes_to_the_same_bit(files, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 33), **SHORT) == -9, log_of(work_dir)[-3000:]
    assert train_forked(CONFIG, work_dir, resume=True, **SHORT) == 0, log_of(work_dir)[-3000:]
    assert f'Resumed from {work_dir}/epoch_5.pth' in log_of(work_dir)
    assert digests(work_dir / 'epoch_6.pth') == digests(files[1])


def test_clipping_is_optional(tmp_path):
    load_motorcycle()
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, **dict(SHORT, train_cfg__max_epochs=1, optim_wrapper__clip_grad=None)) == 0
    log = log_of(work_dir)
    assert 'Iter [6] loss: ' in log and 'grad_norm' not in log
