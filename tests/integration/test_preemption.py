"""A run that is asked to stop saves, leaves with status 75, and goes on as if nothing had happened."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from digests import digests
from forked import PROJECT, log_of, train_forked

from mmckpt.hooks import PreemptionHook

pytestmark = pytest.mark.slow
ROOT = PROJECT.parents[2]
FAILING = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Failing(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 2:
            raise RuntimeError('a loss of another shape')
"""


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('reference') / 'run'
    assert train_forked('tiny_exact.py', work_dir) == 0
    return digests(work_dir / 'iter_40.pth')


def with_preemption(**kwargs):
    return dict(custom_hooks=[
        dict(type='EMAHook', momentum=.02), dict(type='mmckpt.RNGStateHook'), dict(type='mmckpt.ValLossHook'),
        dict(type='mmckpt.EarlyStoppingHook', monitor='acc', min_delta=0., patience=50),
        dict(type='mmckpt.TrainingMonitorHook'), dict(type='mmckpt.PreemptionHook', **kwargs)])


@pytest.mark.parametrize('how, workers', [('term', 0), ('int', 0), ('term', 2)])
def test_signal_saves_inside_an_epoch_and_the_resume_is_exact(how, workers, reference, tmp_path):
    work_dir = tmp_path / 'run'
    loader = dict(train_dataloader__num_workers=workers)
    status = train_forked('tiny_exact.py', work_dir, kill=('before_train_iter', 23, how), **loader, **with_preemption())
    assert status == 75, log_of(work_dir)[-3000:]
    assert (work_dir / 'interrupted_iter_23.pth').exists()
    attempts = json.loads((work_dir / 'mmckpt_index.json').read_text())['attempts']
    assert attempts[0]['why'] == 'signal'
    assert train_forked('tiny_exact.py', work_dir, resume=True, **loader, **with_preemption()) == 0
    ended = digests(work_dir / 'iter_40.pth')
    assert {part: ended[part] for part in ended if part != 'hooks'} == {
        part: reference[part] for part in ended if part != 'hooks'}
    # Once there is a newer file, that of the interruption has served its purpose.
    assert not (work_dir / 'interrupted_iter_23.pth').exists()


def test_time_limit_is_a_signal_of_the_clock(tmp_path):
    work_dir = tmp_path / 'run'
    assert train_forked('tiny_exact.py', work_dir, **with_preemption(time_limit=0.01)) == 75
    assert (work_dir / 'interrupted_iter_1.pth').exists()
    assert 'time_limit of 0 s asks to stop' in log_of(work_dir)


def test_second_signal_stops_at_once(tmp_path):
    work_dir = tmp_path / 'run'
    hooks = with_preemption()
    # The first comes before the forward pass of iteration 5, the second before it ends.
    hooks['custom_hooks'].append(
        dict(type='KillHook', event='before_train_iter', nth=5, how='term', priority='VERY_LOW'))
    status = train_forked('tiny_exact.py', work_dir, kill=('before_train_iter', 5, 'term'), **hooks)
    assert status == 143, log_of(work_dir)[-3000:]
    assert not list(work_dir.glob('interrupted*'))


@pytest.mark.parametrize('fails, loop', [
    (True, 'EpochBasedTrainLoop'), (False, 'EpochBasedTrainLoop'), (False, 'IterBasedTrainLoop')])
def test_the_process_ends_although_its_workers_ignore_signals(fails, loop, tmp_path):
    """Workers that outlive the loop are ended by a SIGTERM when Python exits, and waited for."""
    (tmp_path / 'failing.py').write_text(FAILING)
    (tmp_path / 'config.py').write_text(
        f"_base_ = ['{PROJECT / 'tiny_exact.py'}']\ntrain_dataloader = dict(num_workers=2, persistent_workers=True, "
        f"sampler=dict(infinite={loop.startswith('I')}))\n"
        f"train_cfg = dict(_delete_=True, type='mmckpt.{loop}', "
        f"{'max_epochs=1' if loop.startswith('E') else 'max_iters=8'})\n"
        f"custom_hooks = {[dict(type='mmckpt.PreemptionHook'), *([dict(type='Failing')] if fails else [])]}\n"
        "custom_imports = dict(imports=['tiny_project', 'failing'])\n")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [tmp_path, PROJECT, ROOT])), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, str(ROOT / 'tools/train.py'), 'config.py', '--work-dir', 'run',
                           '--no-validate'], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if fails else 0)
    assert ('a loss of another shape' in done.stderr) == fails and 'DataLoader worker' not in done.stderr


@pytest.mark.parametrize('whole_group', [False, True])
def test_sigterm_to_a_process_with_workers_leaves_in_time(whole_group, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = ['{PROJECT / 'tiny_exact.py'}']\n"
                      "train_dataloader = dict(num_workers=2)\ntrain_cfg = dict(max_epochs=100000)\n"
                      f"custom_hooks = {with_preemption()['custom_hooks']!r}\n")
    environment = dict(os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1')
    with open(tmp_path / 'out.txt', 'w') as out:
        training = subprocess.Popen([sys.executable, str(ROOT / 'tools/train.py'), str(config), '--work-dir', 'run'],
                                    cwd=tmp_path, env=environment, stdout=out, stderr=out, start_new_session=True)
    until = time.monotonic() + 120
    while 'Saving checkpoint at 8 iterations' not in (tmp_path / 'out.txt').read_text():
        assert training.poll() is None and time.monotonic() < until, (tmp_path / 'out.txt').read_text()[-3000:]
        time.sleep(.05)
    os.killpg(training.pid, signal.SIGTERM) if whole_group else training.terminate()
    assert training.wait(30) == 75, (tmp_path / 'out.txt').read_text()[-3000:]
    stopped_at = re.search(r'SIGTERM asks to stop: saving at iteration (\d+)', (tmp_path / 'out.txt').read_text())[1]
    # Where the step has just been saved by the interval, there is nothing to add.
    assert any((tmp_path / 'run' / f'{kind}iter_{stopped_at}.pth').exists() for kind in ('interrupted_', ''))


@pytest.mark.parametrize('kwargs, message', [
    (dict(signals=['SIGNOTHING']), 'no signal'), (dict(time_limit='soon'), 'Expected a duration'),
    (dict(time_limit=-3), 'above 0')])
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PreemptionHook(**kwargs)
