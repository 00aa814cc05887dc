"""The disk fails at every possible step: training goes on, and only sound files are listed."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import subprocess
import sys

import pytest
import torch
from disks import RETENTION, Crash, PowerCutBackend, Scenario, StepBackend, check

from mmckpt.errors import SaveError
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore
from mmckpt.store.backend import LocalBackend


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
    """The number of operations of the whole scenario on a sound disk."""
    backend = StepBackend()
    Scenario(tmp_path_factory.mktemp('sound') / 'run', backend).play()
    assert backend.steps > 100
    return backend.steps


@pytest.fixture
def no_real_sync(monkeypatch):
    """Nothing here survives by a real fsync: who fails, and what is forgotten, is played by the backend."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


def everywhere(tmp_path, steps):
    for step in range(steps):
        yield step, tmp_path / str(step)


def resume_and_save(directory):
    """A new process on a sound disk goes on, whatever was left."""
    view = CheckpointStore.read(directory)
    newest = view.latest_valid()
    scenario = Scenario(directory, LocalBackend())
    scenario.play(resumed_from=newest and newest.name, steps=range(7, 9))
    assert check(directory, 8, best_promised=True).latest_valid().epoch == 8


def test_one_error_at_any_step_costs_at_most_that_save(tmp_path, steps, no_real_sync):
    for step, directory in everywhere(tmp_path, steps):
        scenario = Scenario(directory, StepBackend(lambda s, at=step: OSError(5, 'Input/output error')
                                                   if s == at else None))
        try:
            scenario.play()
        except SaveError:
            assert step < 12, 'only the opening of the store may be refused'
        view = check(directory, scenario.promised, scenario.best_promised)
        assert step < 12 or view.latest_valid().epoch >= 5


def test_a_disk_that_fails_for_good_at_any_step_keeps_what_was_saved(tmp_path, steps, no_real_sync):
    for step, directory in everywhere(tmp_path, steps):
        scenario = Scenario(directory, StepBackend(lambda s, at=step: OSError(28, 'No space left on device')
                                                   if s >= at else None), max_failures=2)
        try:
            scenario.play()
        except SaveError:
            pass
        finally:
            scenario.die()
        check(directory, scenario.promised, scenario.best_promised)
    resume_and_save(directory)


def test_a_crash_at_any_step_keeps_what_was_saved_and_the_next_start_cleans_up(tmp_path, steps, no_real_sync):
    for step, directory in everywhere(tmp_path, steps):
        scenario = Scenario(directory, StepBackend(lambda s, at=step: Crash() if s >= at else None))
        with pytest.raises(Crash):
            scenario.play()
        scenario.die()
        check(directory, scenario.promised, scenario.best_promised)
        if step % 9 == 0:
            resume_and_save(directory)
            assert 'killed' in [a.why for a in CheckpointStore.read(directory).index.attempts] or step < 12


def test_a_power_cut_at_any_step_keeps_what_was_saved(tmp_path, steps, no_real_sync):
    rng = random.Random(0)
    for step, directory in everywhere(tmp_path, steps):
        backend = PowerCutBackend(lambda s, at=step: Crash() if s >= at else None, tmp_path / f'attic{step}')
        scenario = Scenario(directory, backend)
        with pytest.raises(Crash):
            scenario.play()
        scenario.die()
        backend.cut(rng.randrange(len(backend.undo) + 1))
        check(directory, scenario.promised, scenario.best_promised)


def write(store, step, size=250_000):
    weights = {'w': torch.full((size,), float(step))}
    state = {'meta': {'epoch': step, 'iter': step}, 'state_dict': weights}
    return store.write(f'epoch_{step}.pth', state, progress=Progress(step, step), roles=('periodic',))


@pytest.fixture
def file_size_limit():
    """Set the largest file that this process may write, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_no_space_at_every_twentieth_of_a_write_costs_that_save_only(tmp_path, file_size_limit):
    store = CheckpointStore(tmp_path, retention=RETENTION, max_failures=100)
    store.open()
    assert write(store, 1)
    whole = store.find('epoch_1.pth').size
    for twentieth in range(1, 20):
        file_size_limit(whole * twentieth // 20)
        assert not write(store, 2)
        assert [p.name for p in tmp_path.glob('*epoch*')] == ['epoch_1.pth'], 'no temporary file is left'
        check(tmp_path, 1)
    file_size_limit(None)
    assert write(store, 2)
    store.close('finished')
    check(tmp_path, 2)


FULL_DISK = """
import logging, pathlib, sys
import torch
from mmckpt.errors import SaveError
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')
store = CheckpointStore(sys.argv[1], max_failures=2)
store.open()

def write(step):
    weights = {'w': torch.full((250_000,), float(step))}
    state = {'meta': {'epoch': step, 'iter': step}, 'state_dict': weights}
    return store.write(f'epoch_{step}.pth', state, progress=Progress(step, step), roles=('periodic',))

print('saved', [write(step) for step in (1, 2, 3, 4)])
try:
    write(5)
except SaveError as error:
    print('stopped:', error)
print('sound', [store.verify(record) for record in store.records()], store.latest_valid().name)
pathlib.Path(sys.argv[1], 'epoch_1.pth').unlink()
print('saved', write(6), store.latest_valid().name)
store.close('finished')
"""


def test_a_really_full_disk_costs_no_file_and_training_goes_on(tmp_path):
    # In a mount namespace of its own, so that nothing stays mounted whatever happens.
    script = f'mount -t tmpfs -o size=3600k tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}'
    command = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script]
    probe = [*command[:-1], f'mount -t tmpfs tmpfs {tmp_path}']
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip('mounting a tmpfs needs more rights')
    done = subprocess.run(command, input=FULL_DISK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in ('saved [True, True, True, False]', "sound [None, None, None] epoch_3.pth",
                 'saved True epoch_6.pth', 'epoch_4.pth needs about 1.1 MB, but only',
                 'epoch_4.pth could not be written: [Errno 28] No space left on device',
                 'stopped: epoch_5.pth could not be written', 'failure 2 in a row (max_failures=2)'):
        assert line in done.stdout, done.stdout


def test_a_full_disk_first_drops_what_a_newer_file_has_replaced_anyway(tmp_path, monkeypatch, caplog):
    caplog.set_level('INFO', logger='mmckpt')
    store = CheckpointStore(tmp_path, retention=RETENTION)
    store.open()
    for step in (1, 2):
        write(store, step)
    used = store.find('epoch_1.pth').size
    room = 2.5 * used
    monkeypatch.setattr(LocalBackend, 'free_bytes', lambda self, directory: int(
        room - sum(p.stat().st_size for p in tmp_path.glob('*.pth'))))
    present = []
    real = LocalBackend.create
    monkeypatch.setattr(LocalBackend, 'create', lambda self, path: (
        present.append(sorted(p.name for p in tmp_path.glob('*.pth'))), real(self, path))[1])
    assert write(store, 3)
    assert ['epoch_2.pth'] in present, 'epoch_1 went before epoch_3 was written, epoch_2 did not'
    assert 'are free' not in caplog.text
    room = 0
    assert write(store, 4)
    assert 'epoch_4.pth needs about 1.' in caplog.text and 'only' in caplog.text
    store.close('finished')


def test_a_full_disk_never_costs_the_best_before_the_better_one_is_written(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, retention=RETENTION)
    store.open()

    def write_best(step, score):
        state = {'meta': {'epoch': step, 'iter': step}, 'state_dict': {'w': torch.full((250_000,), float(step))}}
        return store.write(f'best_{step}.pth', state, progress=Progress(step, step), roles=('best:AP',),
                           scores={'AP': score}, rules={'AP': 'greater'})

    write_best(1, 0.5)
    write(store, 2)
    monkeypatch.setattr(LocalBackend, 'free_bytes', lambda self, directory: 0)
    real = LocalBackend.create

    def no_room_for_checkpoints(self, path):
        if 'best_3' in path.name:
            raise OSError(28, 'No space left on device')
        return real(self, path)

    monkeypatch.setattr(LocalBackend, 'create', no_room_for_checkpoints)
    assert not write_best(3, 0.9)
    assert (tmp_path / 'best_1.pth').is_file() and store.best('AP').name == 'best_1.pth'
    store.close('finished')


@pytest.mark.parametrize('number, text', [(30, 'Read-only file system'), (13, 'Permission denied'),
                                          (122, 'Disk quota exceeded')])
def test_a_directory_that_cannot_be_written_is_refused_at_the_start_and_survived_later(
        tmp_path, monkeypatch, caplog, number, text):
    store = CheckpointStore(tmp_path)
    store.open()
    write(store, 1)
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(number, text)
        return real(path, flags, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, 'open', refuse)
        assert not write(store, 2)
        assert f'epoch_2.pth could not be written: [Errno {number}] {text}' in caplog.text
        store.close('finished')
        with pytest.raises(SaveError, match=f'cannot be written to .*{text}.*another work_dir'):
            CheckpointStore(tmp_path).open()
    check(tmp_path, 1)
    CheckpointStore(tmp_path).open()


def test_the_bytes_are_on_the_device_before_the_name_and_the_name_before_the_record(tmp_path):
    events = []

    class Watching(StepBackend):
        def create(self, path):
            sink = super().create(path)
            finish = sink.finish
            name = path.name.split('.')[1]
            sink.finish = lambda: (finish(), events.append(f'sync {name}'))
            return sink

        def replace(self, source, target):
            super().replace(source, target)
            events.append(f'name {target.name.split(".")[0]}')

        def sync_directory(self, directory):
            super().sync_directory(directory)
            events.append('sync names')

        def remove(self, path):
            if not path.name.endswith('.tmp'):
                events.append(f'remove {path.name.split(".")[0]}')
            super().remove(path)

    store = CheckpointStore(
        tmp_path, retention=RETENTION, backend=Watching(), pointer=tmp_path / 'last_checkpoint')
    store.open()
    for step in (1, 2, 3):
        events.clear()
        write(store, step, size=500)
    index = ['sync mmckpt_index', 'name mmckpt_index', 'sync names']
    assert events == list(itertools.chain(
        ['sync epoch_3', 'name epoch_3', 'sync names'], index,
        ['sync last_checkpoint', 'name last_checkpoint', 'sync names'], index, ['remove epoch_1']))
    store.close('finished')
