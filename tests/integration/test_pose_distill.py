"""Scenario A, self-distillation: its config trains, is killed, and goes on from a best and from a periodic file."""

import json
import re

import pytest
from digests import digests
from forked import PROJECT, log_of, train_forked

from mmckpt.cli.main import main
from mmckpt.demo.digits import build_digits

CONFIG = PROJECT.parents[2] / 'configs/pose_distill/digits_distill.py'
# Two iterations an epoch, 12 epochs; intervals, hooks and losses are the config's.
SHORT = dict(train_cfg__max_epochs=12, train_dataloader__batch_size=8, train_dataloader__dataset__dataset__indices=16,
             val_dataloader__dataset__indices=16, custom_hooks__3__interval=2, log_level='INFO')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Work directory of a run that nothing happened to."""
    build_digits()
    work_dir = tmp_path_factory.mktemp('distill') / 'run'
    assert train_forked(CONFIG, work_dir, **SHORT) == 0, log_of(work_dir)[-3000:]
    return work_dir


def test_the_short_terms_are_four_orders_below_the_long_one_and_logged_to_six_decimals(whole):
    line = re.compile(r'Iter \[(\d+)\] loss: ([\d.]+), heatmap_loss: ([\d.]+), vis_dist_loss: (0\.\d{6}), '
                      r'kpt_dist_loss: (0\.\d{6})')
    found = line.findall(log_of(whole))
    assert [int(f[0]) for f in found] == list(range(2, 25, 2))
    for _, loss, heatmap, *small in found:
        assert all(1e-5 <= float(term) <= 1e-3 for term in small) and float(heatmap) > 1
        assert float(loss) == pytest.approx(float(heatmap) + sum(map(float, small)), abs=2e-2)


def test_ap_comes_every_five_epochs_and_files_are_kept_as_the_config_says(whole):
    assert re.findall(r'Epoch\(val\) \[(\d+)\]\[\d+/\d+\] +AP:', log_of(whole)) == ['5', '10', '12']
    best = [path.name for path in whole.glob('best_AP_epoch_*.pth')]
    assert len(best) == 1
    # The step of a best has a file under its plain name too, as with stock.
    assert {'epoch_10.pth', 'epoch_12.pth'} <= {path.name for path in whole.glob('epoch_*.pth')}
    assert (whole / 'last_checkpoint').read_text().endswith('epoch_12.pth')
    stats = json.loads((whole / 'training_stats.json').read_text())
    assert 'AP' in json.dumps(stats) and 'vis_dist_loss' in (whole / 'training_stats.txt').read_text()


def test_an_ap_that_stays_at_zero_is_warned_of_with_what_to_look_at(whole):
    """Twelve epochs on 16 pictures find nothing yet, as a wrong mapping of coordinates would."""
    log = log_of(whole)
    assert 'Metric at zero at epoch 12, iter 24: AP has been exactly 0 in all of the 3 validations.' in log
    assert 'compare the coordinates' in log[log.index('Metric at zero'):]


def test_resumed_from_a_best_and_then_from_a_periodic_file_it_is_the_same_run(whole, tmp_path):
    work_dir = tmp_path / 'run'
    # In epoch 8 there is a best of epoch 5, and no periodic file yet.
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 15), **SHORT) == -9, log_of(work_dir)[-3000:]
    assert not (work_dir / 'epoch_10.pth').exists()
    resume = dict(SHORT, resume=True)
    best = work_dir / 'best_AP_epoch_5.pth'
    assert train_forked(CONFIG, work_dir, load_from=best, kill=('after_train_iter', 13), **resume) == -9
    periodic = work_dir / 'epoch_10.pth'
    assert train_forked(CONFIG, work_dir, load_from=periodic, **resume) == 0, log_of(work_dir)[-3000:]
    assert f'Resumed from {best}' in log_of(work_dir) and f'Resumed from {periodic}' in log_of(work_dir)
    assert digests(work_dir / 'epoch_12.pth') == digests(whole / 'epoch_12.pth')


def test_quick_check_sees_every_term_before_the_training(capsys):
    assert main(['quick-check', str(CONFIG), '--iterations', '2', '--cfg-options', 'experiment_name=quick_distill',
                 'train_dataloader.dataset.dataset.indices=64', 'val_dataloader.dataset.indices=16']) == 0
    printed = capsys.readouterr().out
    assert all(term in printed for term in ('heatmap_loss', 'vis_dist_loss', 'kpt_dist_loss', 'AP'))
