"""Disks that fail, and the scenario that is played on them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch

from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore
from mmckpt.store.backend import LocalBackend
from mmckpt.store.unit import STATE

RETENTION = AnyOf(KeepLast(2), KeepBest('best:AP', 1, 'greater'))


class Crash(BaseException):
    """The process dies here; nothing behind it may run."""


class StepBackend(LocalBackend):
    """Counts every operation and fails at the chosen ones.

    Args:
        fails (callable): Takes the number of a step, from 0; returns the error to raise, or None.
    """

    def __init__(self, fails=lambda step: None):
        self.fails = fails
        self.steps = 0

    def step(self):
        step, self.steps = self.steps, self.steps + 1
        error = self.fails(step)
        if error is not None:
            raise error

    def create(self, path):
        self.step()
        return StepSink(self, super().create(path))

    def replace(self, source, target):
        self.step()
        super().replace(source, target)

    def sync_file(self, path):
        self.step()
        super().sync_file(path)

    def sync_directory(self, directory):
        self.step()
        super().sync_directory(directory)

    def link(self, source, target):
        self.step()
        return super().link(source, target)

    def remove(self, path):
        self.step()
        super().remove(path)

    def free_bytes(self, directory):
        self.step()
        return super().free_bytes(directory)


class StepSink:
    def __init__(self, backend, sink):
        self.backend, self.sink = backend, sink

    def write(self, data):
        self.backend.step()
        self.sink.write(data)

    def finish(self):
        self.backend.step()
        self.sink.finish()

    def abort(self):
        self.sink.abort()


class PowerCutBackend(StepBackend):
    """Forgets names that were not synced when the power goes.

    Every change of a name since the last sync of its directory is on a list;
    :meth:`cut` undoes the newest of them, as many as it is told.
    """

    def __init__(self, fails, attic):
        super().__init__(fails)
        self.attic = Path(attic)
        self.attic.mkdir()
        self.undo = []

    def keep(self, path):
        kept = self.attic / str(len(list(self.attic.iterdir())))
        copy(path, kept)
        return kept

    def replace(self, source, target):
        before, after = self.keep(target), self.keep(source)
        super().replace(source, target)
        self.undo.append([(before, target), (after, source)])

    def link(self, source, target):
        made = super().link(source, target)
        self.undo.append([(self.attic / 'nothing', target)])
        return made

    def remove(self, path):
        before = self.keep(path)
        super().remove(path)
        self.undo.append([(before, path)])

    def sync_directory(self, directory):
        super().sync_directory(directory)
        self.undo.clear()

    def cut(self, forgotten):
        for changes in list(reversed(self.undo))[:forgotten]:
            for content, path in changes:
                LocalBackend.remove(self, path)
                copy(content, path)


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


def fault_state(step):
    weights = {'w': torch.full((500,), float(step))}
    return {'meta': {'epoch': step, 'iter': step}, 'state_dict': weights, 'mmckpt': {}}


class Scenario:
    """Six saves, each with all that can follow one; remembers what was promised.

    Args:
        directory (Path): Where to.
        backend (StorageBackend): On which disk.
    """

    def __init__(self, directory, backend, **kwargs):
        self.store = CheckpointStore(directory, retention=RETENTION, backend=backend,
                                     pointer=directory / 'last_checkpoint', **kwargs)
        self.promised = None
        self.best_promised = False

    def play(self, resumed_from=None, steps=range(1, 7)):
        store = self.store
        store.open(resumed_from=resumed_from)
        for step in steps:
            # Step 4 takes a name that is in use.
            name = f'epoch_{2 if step == 4 else step}.pth'
            if store.write(name, self.state(name, step), progress=Progress(step, step), roles=('periodic',),
                           val_pending=True):
                self.promised = step
            if step % 2:
                best = f'best_AP_epoch_{step}.pth'
                store.link(name, best, roles=('best:AP',), scores={'AP': step / 10})
                self.best_promised = self.best_promised or store.find(best) is not None
            store.amend([name], metrics={'AP': step / 10}, post_validation={'step': step}, val_pending=False)
        store.close('finished')

    def state(self, name, step):
        return fault_state(step)

    def die(self):
        """Let the lock go, as the death of the process would."""
        self.store._session.abandon()


class DirectoryScenario(Scenario):
    """The same with a directory of two files, one below another, in place of each file."""

    def state(self, name, step):
        staged = self.store.stage_checkpoint(name)
        (staged.path / 'model').mkdir(parents=True)
        torch.save(fault_state(step)['state_dict'], staged.path / 'model/rank_0.pth')
        torch.save(fault_state(step), staged.path / STATE)
        return staged


def check(directory, promised, best_promised=False):
    """Whatever happened, all that is listed is sound and the promised is there."""
    view = CheckpointStore.read(directory, logging.getLogger('mmckpt'))
    faults = {record.name: view.verify(record) for record in view.records()}
    assert not any(faults.values()), faults
    for record in view.records():
        path = directory / record.name
        assert record.epoch == torch.load(path / STATE if path.is_dir() else path, weights_only=True)['meta']['epoch']
    if promised is not None:
        assert view.latest_valid().epoch >= promised
    if best_promised:
        assert view.best('AP') is not None
    return view
