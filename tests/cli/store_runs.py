"""Small directories of checkpoints, ways to damage them, and what is in them."""

from __future__ import annotations

import os

import torch

from mmckpt.progress import Progress
from mmckpt.store import CheckpointStore

AP = {2: 0.3, 3: 0.5, 4: 0.4, 5: 0.6}


def train(directory, scores, resumed_from=None):
    """Write what a training leaves: a file a step, and a link for each best."""
    store = CheckpointStore(directory, pointer=directory / 'last_checkpoint')
    store.open(resumed_from=resumed_from)
    best = -1.0
    for step, score in scores.items():
        names = [f'epoch_{step}.pth']
        state = {'meta': {'epoch': step, 'iter': 10 * step}, 'mmckpt': {'version': 1},
                 'state_dict': {'weight': torch.full((1000,), float(step))}}
        store.write(names[0], state, progress=Progress(step, 10 * step), roles=('periodic',))
        if score > best:
            best = score
            names.append(f'best_AP_epoch_{step}.pth')
            store.link(names[0], names[1], roles=('best:AP',), scores={'AP': score})
        store.amend(names, metrics={'AP': score, 'loss': 1 / step})
    store.close('finished')


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((4,), float(path.stem[-1])).numpy().tobytes()) + 999] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != '.mmckpt.lock'}


def disk_use(directory):
    return sum({s.st_ino: s.st_size for s in map(os.stat, directory.glob('*.pth'))}.values())


def rows_of(shown):
    """The lines before the summary."""
    return shown[:next(i for i, line in enumerate(shown) if line.startswith('mmckpt:'))]
