"""``mmckpt train`` on a small real project."""

import shutil

import foreign
import pytest
import torch

from mmckpt.cli.main import main


def last_epoch(work_dir):
    return torch.load(max(work_dir.glob('epoch_*.pth')), weights_only=False)


def test_the_end_says_where_the_best_lies_and_how_to_evaluate_it(command, stock, tmp_path):
    status, out, _ = command('train', stock, '--work-dir', tmp_path)
    best = next(tmp_path.glob('best_acc_epoch_*.pth'))
    assert status == 0
    assert f'acc     {last_epoch(tmp_path)["message_hub"]["runtime_info"]["best_score"]:.4f}  {best}' in out
    assert f'mmckpt test {stock} {best}'.split(' ', 3)[3] in out.splitlines()[-1]


def test_resume_goes_on_where_the_run_ended(command, stock, trained, tmp_path):
    work_dir = shutil.copytree(trained, tmp_path / 'run')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    seed = last_epoch(work_dir)['meta']['seed']
    # A better best would make stock's hook remove the old one, by its path in the directory that was copied.
    status, out, _ = command('train', stock, '--work-dir', work_dir, '--resume', '--no-validate', '--cfg-options',
                             'train_cfg.max_epochs=3')
    assert status == 0 and 'Epoch(train) [3]' in out and 'Epoch(train) [2]' not in out
    assert last_epoch(work_dir)['meta'] | dict(epoch=3, iter=12, seed=seed) == last_epoch(work_dir)['meta']


def test_resume_from_is_resume_with_a_path(command, stock, trained, tmp_path):
    status, out, _ = command('train', stock, '--work-dir', tmp_path, '--resume-from', trained / 'epoch_1.pth')
    assert status == 0 and 'Epoch(train) [2]' in out and 'Epoch(train) [1]' not in out


@pytest.mark.parametrize('options', [[], ['--safe']])
def test_resume_from_takes_a_file_of_another_program_with_stock_hooks_and_ours(command, stock, trained, tmp_path,
                                                                               options):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=False)
    optimizer = {k: v for k, v in checkpoint['optimizer'].items() if k in ('state', 'param_groups')}
    torch.save({'epoch': 1, 'optimizer': optimizer, 'best_acc': 0.01, 'args': foreign.Unknown(),
                'model': {f'module.{k}': v for k, v in checkpoint['state_dict'].items()}}, tmp_path / 'by_hand.pth')
    status, out, _ = command('train', stock, '--work-dir', tmp_path / 'run', '--resume-from',
                             tmp_path / 'by_hand.pth', *options)
    assert status == 0 and 'Epoch(train) [2]' in out and 'Epoch(train) [1]' not in out
    assert last_epoch(tmp_path / 'run')['optimizer']['state'][0]['step'] == 8


def test_resume_in_an_empty_directory_warns_and_trains(command, stock, tmp_path):
    status, _, err = command('train', stock, '--work-dir', tmp_path, '--resume')
    assert status == 0 and 'holds no checkpoint, training starts from scratch' in err
    assert last_epoch(tmp_path)['meta']['epoch'] == 2


def test_no_validate_trains_without_best_checkpoints(command, stock, tmp_path):
    status, out, _ = command('train', stock, '--work-dir', tmp_path, '--no-validate')
    assert status == 0 and '--no-validate: nothing to act on for ' in out and 'Epoch(val)' not in out
    assert not list(tmp_path.glob('best_*'))


def test_amp_trains(command, stock, tmp_path):
    status, out, _ = command('train', stock, '--work-dir', tmp_path, '--amp')
    assert status == 0 and '--amp: ' in out
    assert all(v.dtype is not torch.bfloat16 for v in last_epoch(tmp_path)['state_dict'].values())


def test_safe_makes_a_stock_config_safe(command, stock, tmp_path):
    status, out, _ = command('train', stock, '--work-dir', tmp_path, '--safe')
    assert status == 0 and 'CheckpointHook -> mmckpt.CheckpointHook' in out
    assert (tmp_path / 'mmckpt_index.json').is_file() and (tmp_path / 'training_stats.txt').is_file()
    assert last_epoch(tmp_path)['mmckpt']['rng']


@pytest.mark.parametrize('arguments, said', [
    (['--resume-from', 'no_such.pth'], 'checkpoint no_such.pth does not exist'),
    (['--resume', 'a.pth', '--resume-from', 'b.pth'], 'ask for different checkpoints'),
    (['--auto-scale-lr'], 'base_batch_size'),
    (['--show'], 'default_hooks.visualization'),
    (['--cfg-options', 'custom_hooks.9.type=X'], 'does not fit the config'),
    (['--launcher', 'slurm'], 'SLURM_PROCID')])
def test_bad_input_is_one_message_and_status_2(command, stock, tmp_path, arguments, said):
    status, out, err = command('train', stock, '--work-dir', tmp_path / 'run', *arguments)
    assert status == 2 and err.startswith('error: ') and said in err
    assert 'Traceback' not in err and err.count('\n') == 1
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_an_option_without_a_value_is_a_usage_error(capsys, stock):
    with pytest.raises(SystemExit) as left:
        main(['train', stock, '--cfg-options', 'train_cfg.max_epochs'])
    assert left.value.code == 2 and 'takes KEY=VALUE' in capsys.readouterr().err


def test_help_of_every_command_shows_examples_and_exit_status(capsys):
    for name in ('train', 'test', 'quick-check'):
        with pytest.raises(SystemExit) as left:
            main([name, '--help'])
        printed = capsys.readouterr().out
        assert left.value.code == 0 and 'examples:' in printed and 'exit status:' in printed
