"""``mmckpt test`` on a small real project."""

import json
import pickle
import shutil

import pytest
import torch

from mmckpt.cli.main import main


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / 'run')


def test_metrics_are_those_of_the_training(command, stock, run, tmp_path):
    best = next(run.glob('best_acc_epoch_*.pth'))
    score = torch.load(run / 'epoch_2.pth', weights_only=False)['message_hub']['runtime_info']['best_score']
    before = sorted(f.name for f in run.iterdir())
    status, out, _ = command('test', stock, best, '--work-dir', tmp_path / 'logs',
                             '--out', tmp_path / 'm.json')
    assert status == 0 and f'acc     {score:.4f}' in out
    assert json.loads((tmp_path / 'm.json').read_text()) == dict(acc=pytest.approx(score))
    assert sorted(f.name for f in run.iterdir()) == before


def test_predictions_are_written_for_every_sample(command, stock, run, tmp_path):
    status, _, _ = command('test', stock, run, '--work-dir', tmp_path / 'logs', '--out', tmp_path / 'p.pkl')
    assert status == 0
    assert len(pickle.loads((tmp_path / 'p.pkl').read_bytes())) == 128


def test_files_of_other_programs_are_evaluated_as_they_are(command, stock, run, tmp_path):
    checkpoint = torch.load(run / 'epoch_2.pth', weights_only=False)
    score = checkpoint['message_hub']['log_scalars']['val/acc'].current()
    torch.save({'model': {f'module.{k}': v for k, v in checkpoint['state_dict'].items()}, 'epoch': 2},
               tmp_path / 'by_hand.pth')
    assert main(['convert', str(run / 'epoch_2.pth'), str(tmp_path / 'a.safetensors')]) == 0
    for name in ('by_hand.pth', 'a.safetensors'):
        status, out, err = command('test', stock, tmp_path / name, '--work-dir', tmp_path / 'logs')
        assert (status, err) == (0, '') and f'acc     {score:.4f}' in out


@pytest.mark.parametrize('arguments, said', [
    (['no.pth'], 'checkpoint no.pth does not exist'),
    (['{run}/epoch_1.pth', '--out', 'metrics.txt'], '--out takes'),
    (['{run}/epoch_1.pth', '--cfg-options', 'model.width=4'], 'belongs to another model than TinyNet'),
    (['{run}/epoch_1.pth', '--cfg-options', 'model.width=4'], 'width: (absent) in the file, 4 in this config'),
    (['{run}/epoch_1.pth', '--cfg-options', 'val_dataloader=[1,2]'], 'several loaders: set test_dataloader'),
    (['{run}/epoch_1.pth', '--cfg-options', 'val_cfg=None'], 'has no test set')])
def test_bad_input_is_one_message_and_status_2(command, stock, run, tmp_path, arguments, said):
    arguments = [argument.format(run=run) for argument in arguments]
    status, _, err = command('test', stock, *arguments, '--work-dir', tmp_path / 'logs')
    assert status == 2 and said in err and 'Traceback' not in err


def test_parameters_that_the_file_lacks_are_named(command, stock, run, tmp_path):
    checkpoint = torch.load(run / 'epoch_1.pth', weights_only=False)
    del checkpoint['state_dict']['body.5.bias']
    torch.save(checkpoint, tmp_path / 'part.pth')
    status, _, err = command('test', stock, tmp_path / 'part.pth', '--work-dir', tmp_path / 'logs')
    assert status == 0 and 'body.5.bias' in err and 'stay as initialised' in err
