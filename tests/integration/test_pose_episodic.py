"""Scenario B, category-agnostic: episodes, accumulation, two bests and a stop, killed and resumed to the bit."""

import json
import multiprocessing
import os
import re
import signal

import pytest
import torch
from digests import digests
from forked import PROJECT, log_of, train_forked
from mmengine.config import Config
from mmengine.hooks import Hook
from toy_runner import make_runner, read_log

from mmckpt.demo.digits import build_digits

CONFIG = PROJECT.parents[2] / 'configs/pose_episodic/digits_episodic.py'
# Six episodes an epoch, so that windows of accumulation (4) are open at the ends of epochs 1 and 3.
SHORT = dict(train_cfg__max_epochs=3, train_dataloader__dataset__dataset__indices=72,
             val_dataloader__dataset__indices=48)
SAVES = {
    'at the end of epochs': ({}, 'epoch_1.pth', 'epoch_3.pth'),
    'inside epochs': (dict(default_hooks__checkpoint__by_epoch=False, default_hooks__checkpoint__interval=3),
                      'iter_9.pth', 'iter_18.pth'),
}


@pytest.mark.parametrize('saves', SAVES)
def test_killed_inside_an_epoch_it_resumes_to_the_same_bit(saves, tmp_path):
    build_digits()
    overrides, resumed_from, last = SAVES[saves]
    straight, work_dir = tmp_path / 'straight', tmp_path / 'run'
    assert train_forked(CONFIG, straight, **SHORT, **overrides) == 0, log_of(straight)[-3000:]
    assert train_forked(CONFIG, work_dir, kill=('after_train_iter', 10), **SHORT, **overrides) == -9
    assert newest(work_dir).name == resumed_from
    held = torch.load(newest(work_dir), weights_only=True)['mmckpt']['ranks'][0]
    assert held['gradients'], 'no window of accumulation is open, so this test shows less'
    assert train_forked(CONFIG, work_dir, resume=True, **SHORT, **overrides) == 0, log_of(work_dir)[-3000:]
    assert digests(work_dir / last) == digests(straight / last)
    assert bests(work_dir) == bests(straight)
    # One file for each of both, named by its epoch and values.
    names = '\n'.join(sorted(bests(work_dir)))
    assert re.fullmatch(r'best_loss_e00\d_valloss\d+\.\d{4}\.pth\n'
                        r'best_pck_e00\d_pck0\.\d{4}_valloss\d+\.\d{4}\.pth', names), names
    for name, scores in bests(work_dir).items():
        assert all(f'{score:.4f}' in name for score in scores.values())


def newest(work_dir):
    return work_dir / os.path.basename((work_dir / 'last_checkpoint').read_text())


def bests(work_dir):
    index = json.loads((work_dir / 'mmckpt_index.json').read_text())
    return {r['name']: r['scores'] for r in index['records'] if r['name'].startswith('best_')}


# The best at epoch 67 -----------------------------------------------------------

# Nothing before epoch 67 is as good, nothing until epoch 108 either; the loss is best at epoch 90.
PCK = {1: .2, 20: .5, 45: .7, 67: .81, 105: .805, 108: .83}
LOSS = {1: 3., 30: 2., 67: 1.6, 90: 1.5}


def validation(epoch):
    return dict(PCK=PCK.get(epoch, .1), loss=LOSS.get(epoch, 4.))


class KillAtEpoch(Hook):
    """Ends the process with SIGKILL after the first iteration of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch + 1 == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)


def train_scripted(work_dir, start, kill_at=None):
    """Train with the validations of the script, from epoch ``start`` on, in a process of its own."""

    def run():
        torch.set_num_threads(1)
        checkpoint = dict(Config.fromfile(CONFIG).default_hooks.checkpoint, interval=10)
        stop = dict(type='mmckpt.EarlyStoppingHook', monitor='PCK', patience=50, min_delta=0.)
        runner = make_runner(work_dir, [validation(e) for e in range(start + 1, 111)], [stop], epochs=110,
                             checkpoint=checkpoint, resume=start > 0)
        if kill_at is not None:
            runner.register_hook(KillAtEpoch(kill_at), 'LOWEST')
        runner.train()

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    process.join(200)
    return process.exitcode


def test_the_best_of_epoch_67_survives_a_resume_at_100_until_a_better_one_comes(tmp_path):
    assert train_scripted(tmp_path, 0, kill_at=101) == -9
    assert newest(tmp_path).name == 'epoch_100.pth'
    best = bests(tmp_path)
    assert best == {'best_pck_e067_pck0.8100_valloss1.6000.pth': dict(PCK=.81),
                    'best_loss_e090_valloss1.5000.pth': dict(loss=1.5)}
    of_67 = tmp_path / 'best_pck_e067_pck0.8100_valloss1.6000.pth'
    content = of_67.read_bytes()

    # Epoch 105 is better than all that was seen since the resume, and worse than epoch 67.
    assert train_scripted(tmp_path, 100, kill_at=107) == -9
    assert bests(tmp_path) == best
    assert of_67.read_bytes() == content
    assert 'in 39/50 validations (best 0.8100 at epoch 67, now 0.1000' in read_log(tmp_path)

    assert train_scripted(tmp_path, 100) == 0
    assert bests(tmp_path) == {'best_pck_e108_pck0.8300_valloss4.0000.pth': dict(PCK=.83),
                               'best_loss_e090_valloss1.5000.pth': dict(loss=1.5)}
    assert not of_67.exists()
