"""The monitoring hooks in two real processes: means over the ranks, and a NaN that only rank 1 sees."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''
import json, os, sys
import torch.distributed as dist
from monitored_runs import At, make_runner
from mmckpt.hooks.detailed_loss_log_hook import DetailedLossLogHook
from mmckpt.hooks.training_monitor_hook import TrainingMonitorHook

def keep(runner, outputs):
    values = {name: value.item() for name, value in outputs.items()}
    open(f'{sys.argv[1]}/rank{dist.get_rank()}.json', 'w').write(json.dumps(values))

def spoil(runner, outputs):
    if dist.get_rank() == 1:
        outputs['rebuild_loss'] = outputs['rebuild_loss'] * float('nan')

# MMEngine's own start of a process group wants a GPU.
dist.init_process_group('gloo')
hooks = DetailedLossLogHook(interval=2), TrainingMonitorHook(), At([2], keep), At([4], spoil)
make_runner(sys.argv[1], *hooks, validate=False, epochs=1).train()
dist.destroy_process_group()
sys.stdout.flush()
# torch 2.13 aborts now and then when an interpreter ends after gloo.
os._exit(0)
'''


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    """Train on two ranks; return the work directory and what was printed."""
    folder = tmp_path_factory.mktemp('two_ranks')
    script = folder / 'two_ranks.py'
    script.write_text(SCRIPT)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]),
                       OMP_NUM_THREADS='1')
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    done = subprocess.run([*torchrun, str(script), str(folder)], env=environment, text=True, timeout=200,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_one_line_holds_the_mean_over_the_ranks(two_ranks):
    folder, printed = two_ranks
    first, second = (json.loads((folder / f'rank{rank}.json').read_text()) for rank in (0, 1))
    assert first['loss'] != second['loss']
    means = ', '.join(f'{name}: {(first[name] + second[name]) / 2:.6f}' for name in first)
    line, = re.findall(r'(Iter \[2\].*)', printed)
    # The entries of a list, too: their sum is that of the term.
    entries = re.findall(r', rebuild_loss\[\d\]: (\S+)(?=,)', line)
    assert re.sub(r', rebuild_loss\[\d\]: [^,]+', '', line) == f'Iter [2] {means}'
    total = (first['rebuild_loss'] + second['rebuild_loss']) / 2
    assert len(entries) == 2 and sum(map(float, entries)) == pytest.approx(total, abs=2e-6)


def test_a_nan_on_another_rank_is_said_with_its_rank(two_ranks):
    _, printed = two_ranks
    assert printed.count('[rank 1] Non-finite value at iter 4: rebuild_loss is nan') == 1
    assert 'ERROR' in printed and '[rank 0]' not in printed


def test_the_files_are_those_of_rank_0(two_ranks):
    folder, printed = two_ranks
    assert json.loads((folder / 'training_stats.json').read_text())['totals'] == {}
    assert printed.count('Statistics of this training are in') == 1
