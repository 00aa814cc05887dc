"""``mmckpt train --resume-dry-run`` says what a resume would meet, and does nothing."""

import pytest


def files(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob('*')}


@pytest.mark.parametrize('options, expect, said', [
    ([], 0, 'verdict: continues, but not exact (~): streams'),
    (['model.width=9'], 2, 'X weights'),
    (['optim_wrapper.optimizer.lr=1'], 0, '~ config    optim_wrapper.optimizer.lr: 0.003 -> 1')])
def test_the_verdict_is_printed_and_nothing_is_written(command, stock, trained, options, expect, said):
    before = files(trained)
    status, out, _ = command('train', stock, '--work-dir', trained, '--resume-from', trained / 'epoch_2.pth',
                             '--resume-dry-run', '--cfg-options', 'log_level=WARNING', *options)
    assert status == expect and said in out, out
    assert f'Resume preflight of {trained}/epoch_2.pth (epoch 2, iter 8)' in out
    assert files(trained) == before


@pytest.mark.parametrize('arguments, said', [
    ([], 'pass --resume as well, or --resume-from PATH'), (['--resume'], 'holds none; pass --resume-from PATH')])
def test_without_a_checkpoint_there_is_nothing_to_compare(command, stock, tmp_path, arguments, said):
    status, _, err = command('train', stock, '--work-dir', tmp_path / 'run', '--resume-dry-run', *arguments)
    assert status == 2 and said in err
    assert not (tmp_path / 'run').exists()
