"""The disk fails, or the process dies, at every step of saving checkpoints that are directories."""

import os
import random

import pytest
from disks import Crash, DirectoryScenario, PowerCutBackend, StepBackend, check

from mmckpt.errors import SaveError
from mmckpt.store import CheckpointStore
from mmckpt.store import directories as directories_module
from mmckpt.store.backend import LocalBackend

# The fourth takes a name that is in use.
SAVES = range(1, 5)


@pytest.fixture(autouse=True)
def no_real_sync(monkeypatch):
    """Nothing here survives by a real fsync: who fails, and what is forgotten, is played by the backend."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


@pytest.fixture(params=['exchange', 'two renames'])
def renames(request, monkeypatch):
    """Names that are exchanged at one moment, and a system that cannot do that."""
    if request.param == 'two renames':
        monkeypatch.setattr(directories_module, 'exchange', lambda first, second: False)


@pytest.fixture
def steps(tmp_path):
    backend = StepBackend()
    DirectoryScenario(tmp_path / 'sound', backend).play(steps=SAVES)
    assert backend.steps > 100
    return backend.steps


def resume_and_save(directory):
    newest = CheckpointStore.read(directory).latest_valid()
    DirectoryScenario(directory, LocalBackend()).play(resumed_from=newest and newest.name, steps=range(7, 9))
    assert check(directory, 8, best_promised=True).latest_valid().epoch == 8


def test_one_error_at_any_step_costs_at_most_that_save(tmp_path, steps, renames):
    for step in range(0, steps, 2):
        scenario = DirectoryScenario(tmp_path / str(step), StepBackend(
            lambda s, at=step: OSError(5, 'Input/output error') if s == at else None))
        try:
            scenario.play(steps=SAVES)
        except (SaveError, OSError):
            # Who makes the hidden directory hears of it; the hook counts it as a failed save.
            scenario.die()
            continue
        check(tmp_path / str(step), scenario.promised, scenario.best_promised)


def test_a_crash_at_any_step_keeps_what_was_saved(tmp_path, steps, renames):
    for step in range(0, steps, 2):
        directory = tmp_path / str(step)
        scenario = DirectoryScenario(directory, StepBackend(lambda s, at=step: Crash() if s >= at else None))
        with pytest.raises(Crash):
            scenario.play(steps=SAVES)
        scenario.die()
        check(directory, scenario.promised, scenario.best_promised)
        if step % 12 == 0:
            resume_and_save(directory)


def test_a_power_cut_at_any_step_keeps_what_was_saved(tmp_path, steps):
    rng = random.Random(0)
    for step in range(0, steps, 4):
        directory = tmp_path / str(step)
        backend = PowerCutBackend(lambda s, at=step: Crash() if s >= at else None, tmp_path / f'attic{step}')
        scenario = DirectoryScenario(directory, backend)
        with pytest.raises(Crash):
            scenario.play(steps=SAVES)
        scenario.die()
        backend.cut(rng.randrange(len(backend.undo) + 1))
        check(directory, scenario.promised, scenario.best_promised)
