"""The benchmarks run, and measure what they say, on states of a few kilobytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / 'tools/benchmarks'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured through /proc'),
]


def run(script, tmp_path, *options):
    """Return what a benchmark prints, as rows of cells by heading."""
    command = [sys.executable, str(SCRIPTS / script), '--sizes', 'tiny', '--repeats', '1', '--dir', str(tmp_path),
               *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    tables: dict[str, list[list[str]]] = {}
    for line in done.stdout.splitlines():
        if line.startswith('### '):
            rows = tables[line[4:]] = []
        elif line.startswith('| '):
            rows.append([cell.strip() for cell in line.strip('|').split('|')])
    return {heading: {row[0]: dict(zip(rows[0], row)) for row in rows[1:]} for heading, rows in tables.items()}


def test_save_measures_every_way_and_ours_is_durable(tmp_path):
    single, best, overhead = run('save.py', tmp_path).values()
    assert {'memcpy floor', 'raw write + fsync', 'torch.save', 'MMEngine Runner.save_checkpoint', 'torch DCP',
            'torch DCP async', 'mmckpt', 'mmckpt async'} <= set(single)
    assert single['MMEngine Runner.save_checkpoint']['x stock'] == '1.000'
    assert all(float(row['written x state']) >= 1 for name, row in single.items() if name != 'memcpy floor')
    assert (single['mmckpt']['durable'], single['mmckpt async']['durable']) == ('yes', 'later')
    stock, ours = (float(best[f'{name}.CheckpointHook']['written x state']) for name in ('mmengine', 'mmckpt'))
    assert ours < stock
    assert all(float(row['not writing ms']) < float(row['whole ms']) for row in overhead.values())
    assert not list(tmp_path.iterdir()), 'nothing is left on the disk'


def test_resume_measures_loading_place_and_order(tmp_path):
    loading, place, order = run('resume.py', tmp_path, '--iterations', '2000').values()
    assert list(loading) == ['tiny'] and set(place) == {'MMEngine', 'mmckpt'}
    assert all(float(row['ms at iteration 2000']) > 0 for row in place.values())
    assert float(re.match(r'[\d.]+', order['sampler and wrapper, in batches']['cost']).group()) > 0
    assert not list(tmp_path.iterdir()), 'nothing is left on the disk'


def printed(script, *options):
    """Return what a benchmark prints."""
    command = [sys.executable, str(SCRIPTS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_monitor_is_measured_beside_stock_and_does_not_grow_with_the_run():
    rows = re.findall(r'^\| (\S.*?) +\| (\S+) +\| (\S+) +\| (\S+) +\|$', printed('monitor.py', '--quick'), re.M)
    found = {name: [float(cell) for cell in cells] for name, *cells in rows}
    stock, ours = found['MMEngine message_hub, its history alone'], found['mmckpt, hook and all detectors']
    assert stock[1] > 5 * ours[1] > 0 and ours[2] < 3 < stock[2]


def test_the_proof_finds_a_planted_fault_and_raises_nothing_in_a_healthy_run():
    text = printed('monitor_proof.py', '--faults', 'layer that is not used', '--healthy', '1')
    assert re.search(r'\| layer that is not used \| Parameters without gradient \| warning +\| 20 ', text)
    assert '1 healthy runs: 0 findings above info' in text
