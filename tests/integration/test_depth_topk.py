"""Scenario C: two validation loaders, the three best by one of them and by the loss, and a monitor that is wrong."""

import json

import pytest
import torch
from digests import digests
from forked import PROJECT, log_of, train_forked

from mmckpt.cli.main import main
from mmckpt.demo.motorcycle import load_motorcycle

CONFIG = PROJECT.parents[2] / 'configs/depth_topk/unet_two_validations.py'
# Two iterations an epoch; hooks, loaders, losses and metrics are the config's.
SHORT = dict(train_cfg__max_epochs=8, train_dataloader__dataset__dataset__indices=16, model__widths=[4, 8, 8, 8],
             optim_wrapper__optimizer__lr=0.02)
MONITORED = ('depth-abs_rel0', 'loss')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Work directory of a run that nothing happened to."""
    load_motorcycle()
    work_dir = tmp_path_factory.mktemp('topk') / 'run'
    assert train_forked(CONFIG, work_dir, **SHORT) == 0, log_of(work_dir)[-3000:]
    return work_dir


def as_options(overrides):
    return [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()]


def kept(work_dir, metric):
    """Epoch and score of each file that is kept for a metric."""
    records = json.loads((work_dir / 'mmckpt_index.json').read_text())['records']
    found = {r['epoch']: r['scores'][metric] for r in records if f'best:{metric}' in r['roles']}
    assert all((work_dir / r['name']).is_file() for r in records)
    return found


def scores(work_dir, metric):
    """Score of each epoch, from the log."""
    text = next(work_dir.glob('2*/vis_data/scalars.json')).read_text()
    return [line[metric] for line in map(json.loads, text.splitlines()) if metric in line and 'lr' not in line]


@pytest.mark.parametrize('metric', MONITORED)
def test_the_three_best_are_kept_by_each_metric(whole, metric):
    values = scores(whole, metric)
    assert len(values) == 8
    best = sorted(range(8), key=values.__getitem__)[:3]
    assert kept(whole, metric) == pytest.approx({epoch + 1: values[epoch] for epoch in best}, rel=1e-6)
    assert 'freed' in log_of(whole)


def test_no_other_file_is_left(whole):
    owned = {epoch for metric in MONITORED for epoch in kept(whole, metric)}
    files = [torch.load(path, weights_only=True)['meta']['epoch'] for path in whole.glob('*.pth')]
    assert set(files) == owned and len(files) == 6


def test_names_carry_epoch_and_score(whole):
    names = {path.name for path in whole.glob('*.pth')}
    for epoch, score in kept(whole, 'depth-abs_rel0').items():
        assert f'depth_e{epoch:02d}_abs_rel{score:.4f}.pth' in names


def test_each_loaders_metrics_are_those_of_its_data_alone(whole, tmp_path, capfd):
    record = next(r for r in json.loads((whole / 'mmckpt_index.json').read_text())['records']
                  if 'best:depth-abs_rel0' in r['roles'])
    found = tmp_path / 'found.json'
    for index, columns in enumerate([(0, 64), (306, 370)]):
        assert main(['test', str(CONFIG), str(whole / record['name']), '--work-dir', str(tmp_path), '--out', str(found),
                     '--cfg-options', f'experiment_name=topk{index}', *as_options(SHORT),
                     f'test_dataloader.dataset.columns=[{columns[0]},{columns[1]}]']) == 0
        for metric, value in json.loads(found.read_text()).items():
            assert record['metrics'][f'depth-{metric}{index}'] == pytest.approx(value, rel=1e-6), metric


def test_killed_and_resumed_it_keeps_the_same_files(whole, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 11), **SHORT) == -9, log_of(work_dir)[-3000:]
    assert train_forked(CONFIG, work_dir, resume=True, **SHORT) == 0, log_of(work_dir)[-3000:]
    for metric in MONITORED:
        assert kept(work_dir, metric) == kept(whole, metric)
    for path in whole.glob('*.pth'):
        assert digests(work_dir / path.name) == digests(path), path.name


# A monitor that is wrong --------------------------------------------------------

WRONG = "default_hooks.checkpoint.save_best.0.metric='depth-abs_rel2'"


def test_a_wrong_monitor_is_found_before_the_training(capsys):
    assert main(['quick-check', str(CONFIG), '--iterations', '1', '--cfg-options', 'experiment_name=quick_topk',
                 *as_options(SHORT), WRONG]) == 1
    printed = capsys.readouterr().out
    assert 'PROBLEM' in printed and 'depth-abs_rel2' in printed
    assert 'depth-abs_rel0' in printed and 'depth-abs_rel1' in printed


def test_without_that_check_the_first_validation_says_so_and_nothing_is_saved(tmp_path, capfd):
    work_dir = tmp_path / 'run'
    assert main(['train', str(CONFIG), '--work-dir', str(work_dir), '--cfg-options', 'experiment_name=wrong_topk',
                 *as_options(SHORT), WRONG]) != 0
    said = capfd.readouterr().err
    assert "'depth-abs_rel2' is not among the metrics" in said and 'depth-abs_rel0' in said
    assert list(work_dir.glob('*.pth')) == []
