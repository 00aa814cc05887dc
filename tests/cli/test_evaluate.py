"""``mmckpt evaluate`` and ``mmckpt average`` on a small real run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import run_main


@pytest.fixture(scope='module')
def finished(stock, tmp_path_factory):
    """A run of 4 epochs that keeps its 3 best by acc; not to be written to."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    config = tmp_path_factory.mktemp('config') / 'many.py'
    config.write_text(f"_base_ = [{str(stock)!r}]\ndefault_hooks = dict(checkpoint=dict(type='mmckpt.CheckpointHook', "
                      "interval=1, _delete_=True, save_best=dict(metric='acc', rule='greater', keep=3)))\n"
                      "train_cfg = dict(max_epochs=4)\nrandomness = dict(seed=1)\n")
    assert run_main('train', config, '--work-dir', work_dir) == 0
    return work_dir


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / 'run')


def score_of(work_dir, epoch):
    index = json.loads((work_dir / 'mmckpt_index.json').read_text())
    return next(r['metrics']['acc'] for r in index['records'] if r['epoch'] == epoch)


def test_each_kept_checkpoint_is_evaluated_and_the_winner_named(command, run, tmp_path):
    before = sorted(f.name for f in run.iterdir())
    status, out, _ = command('evaluate', run, '--ckpts', 'best,last,epoch:1,top:acc:2', '--out', tmp_path / 'r.json')
    assert status == 0
    results = json.loads((tmp_path / 'r.json').read_text())
    measured = {r['epoch']: r['metrics']['acc'] for r in results['results']}
    assert measured == {epoch: pytest.approx(score_of(run, epoch)) for epoch in measured}
    assert results['by'] == 'acc' and results['rule'] == 'greater'
    assert max(measured.values()) == next(
        r['metrics']['acc'] for r in results['results'] if r['path'] == results['winner'])
    assert 'the best by acc (greater is better):' in out
    # A step is evaluated once, whatever it was asked for as, and the run's directory is left alone.
    assert len(results['results']) == len(set(measured)) and sorted(f.name for f in run.iterdir()) == before


def test_the_mean_of_the_best_is_written_durably_and_evaluated_beside_them(command, run, tmp_path):
    status, out, _ = command('average', run, '--top', 'acc:2', '--out', tmp_path / 'r.json')
    assert status == 0
    made = torch.load(run / 'averaged' / 'mean_acc_2.pth', weights_only=True)
    members = [torch.load(run / name, weights_only=True)['state_dict'] for name in made['meta']['averaged_from']]
    for key, value in made['state_dict'].items():
        expected = torch.stack([member[key].double() for member in members]).mean(0)
        assert torch.allclose(value.double(), expected) or not value.is_floating_point()
    asked = [r['asked_for_as'] for r in json.loads((tmp_path / 'r.json').read_text())['results']]
    assert asked == ['member', 'member', 'mean'] and 'The mean of 2 of 2 checkpoints' in out


def test_greedy_takes_no_member_that_makes_it_worse(command, run, tmp_path):
    status, out, _ = command('average', run, '--ckpts', 'all', '--greedy', '--update-bn', 2, '--name',
                             tmp_path / 'g.pth', '--out', tmp_path / 'r.json')
    assert status == 0 and 'acc' in out
    results = json.loads((tmp_path / 'r.json').read_text())['results']
    members = [r for r in results if r['asked_for_as'] == 'member']
    best = max(r['metrics']['acc'] for r in results[:-1])
    assert members and max(r['metrics']['acc'] for r in members) == best
    counted = torch.load(tmp_path / 'g.pth', weights_only=True)['state_dict']['body.1.num_batches_tracked']
    assert counted == 2, 'the statistics are those of the two training batches'


@pytest.mark.parametrize('arguments, said', [
    (['evaluate', '{run}', '--ckpts', 'epoch:9'], 'epoch:9: '),
    (['evaluate', '{run}', '--ckpts', 'nothing.pth'], 'neither a file of'),
    (['evaluate', '{run}', '--ckpts', 'last', '--metric', 'ac'], "Did you mean 'acc'"),
    (['average', '{run}', '--top', 'acc'], '--top takes METRIC:N'),
    (['average', '{run}', '--top', 'ac:3'], "Did you mean 'acc'"),
    (['average', '{run}', '--ckpts', 'last'], 'at least two checkpoints'),
    (['evaluate', '{run}/nowhere'], 'does not exist')])
def test_bad_input_is_one_message_and_status_2(command, finished, arguments, said):
    status, _, err = command(*(argument.format(run=finished) for argument in arguments))
    assert status == 2 and said in err and 'Traceback' not in err


@pytest.mark.parametrize('text, said', [
    ('import os\nos.system("touch {victim}")\nmodel = dict(type="Net")', 'no test or validation set'),
    ('model = dict(type="Net")\ntest_evaluator = dict(type="os.system", command="touch {victim}")',
     'would have os.system called')])
def test_a_config_that_only_a_checkpoint_holds_runs_nothing(command, run, tmp_path, text, said):
    for config in run.glob('*.py'):
        config.unlink()
    path = run / 'best_of_a_stranger.pth'
    torch.save(dict(meta=dict(cfg=text.format(victim=tmp_path / 'victim')), state_dict={}), path)
    (run / 'mmckpt_index.json').unlink()
    for other in set(run.glob('*.pth')) - {path}:
        other.unlink()
    status, _, error = command('evaluate', run, '--ckpts', 'all')
    assert status == 2 and said in error and not (tmp_path / 'victim').exists(), error


def test_the_config_in_a_checkpoint_does_where_there_is_no_other(command, run, tmp_path):
    for config in run.glob('*.py'):
        config.unlink()
    status, out, error = command('evaluate', run, '--ckpts', 'last', '--out', tmp_path / 'r.json')
    assert status == 0 and 'takes the config that is stored in' in out + error
    assert json.loads((tmp_path / 'r.json').read_text())['results'][0]['metrics']['acc'] == score_of(run, 4)


def test_an_average_replaces_no_file_of_the_users(command, run):
    before = (run / 'epoch_1.pth').read_bytes()
    status, _, error = command('average', run, '--top', 'acc:2', '--name', run / 'epoch_1.pth')
    assert status == 2 and 'is there already; pass another --name' in error
    assert (run / 'epoch_1.pth').read_bytes() == before


def test_checkpoints_of_stock_are_evaluated_too(command, trained):
    status, out, _ = command('evaluate', trained, '--ckpts', 'best:acc,epoch:1')
    assert status == 0 and 'the best by acc' in out
