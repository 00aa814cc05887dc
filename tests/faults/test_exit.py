"""A background write ends before the interpreter does, however it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmckpt.store import CheckpointStore

SCRIPT = """
import os, sys
import torch
from mmckpt.progress import Progress
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore

store = CheckpointStore(sys.argv[1], async_save=True, stage=Snapshot())
store.open()
state = {'meta': {'epoch': 1, 'iter': 1}, 'state_dict': {'w': torch.ones(20_000_000)}}
store.write('epoch_1.pth', state, progress=Progress(1, 1), roles=('periodic',))
assert store.records() == [], 'it was written before the process could end'
if os.fork() == 0:
    # A forked worker that ends like a program must neither wait nor touch the store.
    sys.exit(0)
"""


@pytest.mark.parametrize('ending, status', [('', 0), ('sys.exit(3)', 3), ('raise KeyError("a bug")', 1)],
                         ids=['end of the script', 'sys.exit', 'exception'])
def test_the_interpreter_waits_for_the_writer(tmp_path, ending, status):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-', str(tmp_path)], input=SCRIPT + ending,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    view = CheckpointStore.read(tmp_path)
    assert view.latest_valid().name == 'epoch_1.pth'
    assert [attempt.why for attempt in view.index.attempts] == ['exit']
