"""kill -9 at random moments of saving, linking, completing and pruning, with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('kind, kills, steps', [('files', 50, 100), ('directories', 25, 25)])
def test_a_killed_process_loses_nothing_that_was_saved(kind, kills, steps, tmp_path):
    driver = Path(__file__).with_name('kill_driver.py')
    command = [sys.executable, str(driver), str(tmp_path), str(kills), '0', kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    assert result['problems'] == []
    assert result['steps'] == sorted(result['steps']) and result['steps'][-1] > steps
    assert result['ends'] == ['killed'] * kills + ['finished']
    assert not [name for name in result['left'] if name.endswith('.tmp')], 'temporary files are cleaned up'
    assert len([name for name in result['left'] if name.endswith('.pth')]) <= 4, 'dropped files pile up'
