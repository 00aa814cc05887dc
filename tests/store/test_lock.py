"""One training process a directory, with real processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from mmckpt.errors import LockedError
from mmckpt.store.backend import dead_temporaries, temporary_path
from mmckpt.store.lock import LOCK_NAME, OWNER_NAME, DirectoryLock, process_start

HOLD = """
import logging, os, sys, time
from pathlib import Path
from mmckpt.store.lock import DirectoryLock
DirectoryLock(Path(sys.argv[1]), logging.getLogger()).acquire()
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock of ``tmp_path``."""
    command = [sys.executable, '-c', HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert int(process.stdout.readline()) == process.pid
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def lock_of(path):
    return DirectoryLock(path, logging.getLogger('mmckpt'))


def test_a_second_process_is_told_who_holds_the_directory(tmp_path, other_process):
    said = f'process {other_process.pid} on host .*since 20.*choose another work_dir'
    with pytest.raises(LockedError, match=said):
        lock_of(tmp_path).acquire()


def test_a_store_refuses_a_directory_that_another_process_trains_into(tmp_path, other_process, open_store):
    with pytest.raises(LockedError):
        open_store(directory=tmp_path)


def test_the_lock_of_a_killed_process_is_taken_over_and_that_is_said(tmp_path, other_process, said):
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    lock = lock_of(tmp_path)
    lock.acquire()
    assert f'Took over {tmp_path} from process {other_process.pid}' in said()
    assert json.loads((tmp_path / OWNER_NAME).read_text())['pid'] == os.getpid()
    lock.release()


def test_stores_of_one_process_share_the_lock_until_the_last_one_closes(tmp_path):
    first, second = lock_of(tmp_path), lock_of(tmp_path / '..' / tmp_path.name)
    first.acquire()
    second.acquire()
    assert first.shared
    first.release()
    first.release()
    probe = [sys.executable, '-c', HOLD.replace('time.sleep(600)', ''), str(tmp_path)]
    assert 'LockedError' in subprocess.run(probe, capture_output=True, text=True).stderr
    second.release()
    assert not (tmp_path / OWNER_NAME).exists()
    assert subprocess.run(probe, capture_output=True, text=True).returncode == 0


def test_a_forked_child_keeps_no_lock(tmp_path):
    code = f"""
import logging, os, sys, time
from pathlib import Path
from mmckpt.store.lock import DirectoryLock
DirectoryLock(Path({str(tmp_path)!r}), logging.getLogger()).acquire()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os._exit(0)
"""
    # The child inherits the pipe: read one line, do not wait for its end.
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.wait()
        try:
            lock = lock_of(tmp_path)
            lock.acquire()
            lock.release()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, said):
    def no_locks(*args):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', no_locks)
    lock = lock_of(tmp_path)
    lock.acquire()
    lock.release()
    assert 'knows no locks' in said()


def test_temporary_files_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path, open_store, said):
    run = tmp_path / 'run'
    run.mkdir()
    mine = temporary_path(run / 'epoch_1.pth')
    host, start = os.uname().nodename, process_start(os.getpid())
    dead = [run / f'.epoch_2.pth.{host}-{2 ** 22 + 1}-5.tmp',
            run / f'.epoch_3.pth.{host}-{os.getpid()}-{start - 1}.tmp',
            run / '.epoch_4.pth.another-host-77-5.tmp']
    for path in [mine, *dead, run / '.not-ours.tmp']:
        path.write_bytes(b'half')
    assert sorted(dead_temporaries(run)) == sorted(dead)
    open_store()
    assert sorted(p.name for p in run.glob('.*.tmp')) == sorted([mine.name, '.not-ours.tmp'])
    assert 'Removed .epoch_2.pth' in said()


def test_the_lock_file_itself_stays(tmp_path):
    lock = lock_of(tmp_path)
    lock.acquire()
    lock.release()
    assert [p.name for p in tmp_path.iterdir()] == [LOCK_NAME]
