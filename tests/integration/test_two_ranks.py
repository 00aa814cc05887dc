"""Two gloo ranks under torchrun: killed, resumed on two and on one, and from one to two."""

import json
import os
import subprocess
import sys

import launched
import pytest
import torch
from digests import digests
from forked import PROJECT
from launched import ROOT

import mmckpt  # noqa: F401

pytestmark = pytest.mark.slow


def launch(ranks, work_dir, *args, config='tiny_two_ranks.py', how=launched.launch, **kwargs):
    return how(ranks, PROJECT / config, work_dir, f'train_dataloader.batch_size={32 // ranks}', *args, **kwargs)


def launch_by_torchrun(*args, **kwargs):
    return launch(*args, how=launched.launch_by_torchrun, **kwargs)


@pytest.fixture
def port():
    """A port of this test's own; pytest-xdist runs several tests at once."""
    return str(31700 + os.getpid() % 2000)


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('two') / 'run'
    launch(2, work_dir)
    return work_dir


def test_two_killed_ranks_resume_bit_identical_with_bn_of_their_own(reference, tmp_path):
    work_dir = tmp_path / 'run'
    # Rank 1 dies; torchrun takes the other down.
    launch_by_torchrun(2, work_dir, "custom_hooks.6.type='KillRank'", 'custom_hooks.6.nth=21', expect=1)
    launch(2, work_dir, 'resume=True')
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')
    ranks = torch.load(work_dir / 'iter_36.pth', weights_only=True)['mmckpt']['ranks']
    assert ranks[1]['buffers'], 'the ranks have the same BN statistics, so this test shows nothing'


def test_torchrun_restarts_a_killed_rank_and_the_run_resumes_by_itself(reference, tmp_path):
    work_dir = tmp_path / 'run'
    out = launch_by_torchrun(2, work_dir, "custom_hooks.6.type='KillRank'", 'custom_hooks.6.nth=21',
                             torchrun=['--max-restarts=2'], flags=['--resume'])
    assert 'training starts from scratch' in out and f'Resumed from {work_dir}/iter_20.pth' in out, out[-4000:]
    assert len(json.loads((work_dir / 'mmckpt_index.json').read_text())['attempts']) == 2
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')


def test_two_machines_meet_again_after_a_rank_was_killed(reference, tmp_path, port):
    """Both run here, as one would start them on two machines that share a disk."""
    work_dir = tmp_path / 'run'
    environment = dict(
        os.environ, PYTHONPATH=f'{PROJECT}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1', PYTHON=sys.executable,
        CUDA_VISIBLE_DEVICES='', NNODES='2', MASTER_ADDR='127.0.0.1', PORT=port, MAX_RESTARTS='2')
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(PROJECT / 'tiny_two_ranks.py'), '1', '--work-dir',
               str(work_dir), '--resume', '--cfg-options', 'train_dataloader.batch_size=16',
               "custom_hooks.6.type='KillRank'", 'custom_hooks.6.nth=21']
    machines = [subprocess.Popen(command, cwd=tmp_path, env=dict(environment, NODE_RANK=str(rank)), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for rank in range(2)]
    try:
        printed = [machine.communicate(timeout=240)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], printed
    assert any(f'Resumed from {work_dir}/iter_20.pth' in text for text in printed), printed
    assert digests(work_dir / 'iter_40.pth') == digests(reference / 'iter_40.pth')


def test_each_rank_goes_on_at_its_own_place_in_a_stream(tmp_path):
    stream = dict(config='tiny_stream_ranks.py')
    launch(2, tmp_path / 'straight', **stream)
    work_dir = tmp_path / 'run'
    launch_by_torchrun(2, work_dir, "custom_hooks.6.type='KillRank'", 'custom_hooks.6.nth=14', expect=1, **stream)
    launch(2, work_dir, 'resume=True', **stream)
    assert digests(work_dir / 'iter_40.pth') == digests(tmp_path / 'straight' / 'iter_40.pth')
    places = [rank['data'] for rank in torch.load(work_dir / 'iter_36.pth', weights_only=True)['mmckpt']['ranks']]
    assert places[0] != places[1], 'the ranks read the same, so this test shows nothing'


def seen(work_dir):
    """Labels of each global batch since the resume, whatever rank read them."""
    rows = {}
    for path in work_dir.glob('seen_*.txt'):
        for line in path.read_text().splitlines():
            step, labels = line.split(':')
            rows.setdefault(int(step), []).extend(labels.split())
    return {step: sorted(labels) for step, labels in rows.items()}


def test_the_sample_order_is_that_of_any_number_of_ranks(tmp_path):
    for name, ranks in (('one', 1), ('two', 2)):
        launch(ranks, tmp_path / name, 'train_cfg.max_epochs=2', "custom_hooks.6.type='WriteSamples'")
    whole = seen(tmp_path / 'two')
    assert len(whole) == 16 and seen(tmp_path / 'one') == whole
    for name, ranks in (('one', 2), ('two', 1)):
        out = launch(ranks, tmp_path / name, 'train_cfg.max_epochs=4', "custom_hooks.6.type='WriteSamples'",
                     'resume=True')
        assert 'not bit-exact' in out, out[-4000:]
    later = seen(tmp_path / 'two')
    assert len(later) == 32 and seen(tmp_path / 'one') == later
