"""Kills a process that saves, links, completes and prunes, again and again; prints what was found as JSON.

Imports torch once and forks, so that fifty kills take seconds.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mmckpt.policy.retention import AnyOf, KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore, StagedCheckpoint, load_checkpoint
from mmckpt.store.unit import STATE

RETENTION = AnyOf(KeepLast(2), KeepBest('best:AP', 1, 'greater'))


def train(directory: Path, acknowledge: int, background: bool, folders: bool) -> None:
    """Resume and save for ever; write the number of each step that is safe to the pipe."""
    newest = CheckpointStore.read(directory).latest_valid()
    store = CheckpointStore(directory, retention=RETENTION, pointer=directory / 'last_checkpoint',
                            async_save=background, stage=Snapshot())
    store.open(resumed_from=newest and newest.name)
    weight = torch.zeros(20_000)
    if newest is not None and newest.val_pending:
        validate(store, newest.epoch)
    for step in range(1 if newest is None else newest.epoch + 1, 10 ** 6):
        weight.fill_(step)
        name = f'epoch_{step}.pth'
        state = {'meta': {'epoch': step, 'iter': step}, 'state_dict': {'w': weight}, 'mmckpt': {}}
        # Every seventh file is written twice, as by a resume from an older one: the name is replaced.
        for _ in range(1 if step % 7 else 2):
            store.write(name, staged(store, name, state) if folders else state, progress=Progress(step, step),
                        roles=('periodic',), val_pending=True)
        validate(store, step)
        if background and step % 4:
            continue
        store.wait()
        os.write(acknowledge, f'{step}\n'.encode())


def staged(store: CheckpointStore, name: str, state: dict) -> StagedCheckpoint:
    """Write a state as a directory of two files, as a strategy does."""
    unit = store.stage_checkpoint(name)
    (unit.path / 'parts').mkdir(parents=True)
    torch.save(state, unit.path / STATE)
    torch.save(state['state_dict'], unit.path / 'parts/rank0.pth')
    return unit


def validate(store: CheckpointStore, step: int) -> None:
    """Every third step is a best one; what a validation was killed in is made up after the resume."""
    name = f'epoch_{step}.pth'
    if step % 3 == 0:
        store.link(name, f'best_AP_{name}', roles=('best:AP',), scores={'AP': step / 1000})
    store.amend([name, f'best_AP_{name}'], metrics={'AP': step / 1000}, val_pending=False)


def killed_once(directory: Path, seconds: float, background: bool, folders: bool) -> int:
    """Let a process train for a while, kill it; return the last step that it called safe."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            train(directory, write, background, folders)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        # The clock starts with the first safe step: before it there is nothing to lose.
        first = pipe.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        steps = [first, *pipe.readlines()]
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == -signal.SIGKILL, 'the training ended by itself'
    return max(int(step) for step in steps if step.endswith('\n'))


def inspect(directory: Path, safe: int) -> list[str]:
    """Return everything that is not as promised."""
    problems = []
    logger = logging.Logger('inspect')
    logger.addHandler(logging.StreamHandler(sys.stderr))
    view = CheckpointStore.read(directory, logger)
    newest = view.latest_valid()
    if newest is None or newest.epoch < safe:
        problems.append(f'step {safe} was safe, but the newest is {newest}')
    for record in view.records():
        fault = view.verify(record)
        if fault is not None:
            problems.append(f'{record.name}: {fault}')
            continue
        path = directory / record.name
        whole = load_checkpoint(path / STATE if path.is_dir() else path)
        if whole['state_dict']['w'].unique().tolist() != [record.epoch]:
            problems.append(f'{record.name} holds another step')
    best = view.best('AP')
    if safe >= 3 and (best is None or best.epoch < safe - safe % 3):
        problems.append(f'the best of step {safe} is not there, but {best}')
    return problems


def main(directory: Path, kills: int, seed: int, folders: bool) -> None:
    torch.set_num_threads(1)
    rng = random.Random(seed)
    problems, steps = [], []
    for i in range(kills):
        safe = killed_once(directory, rng.uniform(0, 0.15), bool(i % 2), folders)
        problems += [f'kill {i}: {problem}' for problem in inspect(directory, safe)]
        steps.append(safe)
    # One last start clears away what the killed processes left.
    store = CheckpointStore(directory, retention=RETENTION)
    store.open(resumed_from=CheckpointStore.read(directory).latest_valid().name)
    store.close('finished')
    left = sorted(path.name for path in directory.iterdir())
    ends = [attempt.why for attempt in store.index.attempts]
    print(json.dumps(dict(problems=problems, steps=steps, left=left, ends=ends)))


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ['directories'])
