"""The monitoring hooks in two real processes: means over the ranks, and a NaN that only rank 1 sees."""

import json
import re

import pytest
from forked import on_two_ranks
from mmengine.dist import get_rank
from monitored_runs import At, make_runner

from mmckpt.hooks.detailed_loss_log_hook import DetailedLossLogHook
from mmckpt.hooks.training_monitor_hook import TrainingMonitorHook


def train(folder):
    """A rank: trains an epoch, in which rank 1 meets a NaN."""
    def keep(runner, outputs):
        values = {name: value.item() for name, value in outputs.items()}
        (folder / f'rank{get_rank()}.json').write_text(json.dumps(values))

    def spoil(runner, outputs):
        if get_rank() == 1:
            outputs['rebuild_loss'] = outputs['rebuild_loss'] * float('nan')

    hooks = DetailedLossLogHook(interval=2), TrainingMonitorHook(), At([2], keep), At([4], spoil)
    make_runner(folder, *hooks, validate=False, epochs=1).train()


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    """Train on two ranks; return the work directory and what was printed."""
    folder = tmp_path_factory.mktemp('two_ranks')
    return folder, on_two_ranks(train, folder)


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
