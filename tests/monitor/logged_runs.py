"""Work directories as MMEngine and mmckpt leave them, written by hand."""

import json
import os
import socket
import time

LENGTH = 10


def stamp(moment):
    return time.strftime('%Y%m%d_%H%M%S', time.localtime(moment))


def train_line(done, by_epoch=True, **values):
    entry = {'lr': 0.1, 'data_time': 0.01, 'loss': 100.0 / done, 'loss_kpt': 50.0 / done, 'time': 0.1, **values}
    return {**entry, **({'epoch': (done - 1) // LENGTH + 1} if by_epoch else {}), 'iter': done, 'step': done}


def val_line(step, **metrics):
    return {'coco/AP': 0.1 * step, **metrics, 'data_time': 0.01, 'time': 0.1, 'step': step}


def epochs(first, last, **values):
    """Lines of whole epochs of 10 iterations, logged at the 4th and 8th, each validated."""
    for epoch in range(first, last + 1):
        for inner in (4, 8):
            yield train_line((epoch - 1) * LENGTH + inner, **values)
        yield val_line(epoch)


def write_attempt(work_dir, moment, lines, journal=()):
    """Write the directory of one attempt that began at a moment."""
    data = work_dir / stamp(moment) / 'vis_data'
    data.mkdir(parents=True)
    (data / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if journal:
        text = ''.join(json.dumps(event) + '\n' for event in journal)
        (data.parent / 'mmckpt_events.jsonl').write_text(text)
    return data / 'scalars.json'


def attempt(number, start, run=1, why='finished', **changes):
    return {'attempt': number, 'run': run, 'host': socket.gethostname(), 'pid': os.getpid(), 'start': start,
            'stop': start + 60 if why else None, 'why': why, **changes}


def record(name, epoch, moment=0.0, roles=('periodic',), run=1, size=2_000_000):
    return {'name': name, 'seq': epoch, 'run': run, 'attempt': 1, 'epoch': epoch, 'iter': epoch * LENGTH,
            'time': moment, 'size': size, 'digest': '', 'roles': list(roles)}


def write_index(work_dir, attempts, records=()):
    (work_dir / 'mmckpt_index.json').write_text(json.dumps(
        {'version': 1, 'attempts': list(attempts), 'records': list(records)}))


def write_stats(work_dir, moment, reason='finished', **changes):
    content = {'version': 1, 'work_dir': 'x', 'status': reason, 'reason': reason, 'epoch': 3, 'iter': 30,
               'written_at': time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment)), 'monitor_failures': 0,
               'terms': {}, 'metrics': {}, 'totals': {}, 'events': [], **changes}
    (work_dir / 'training_stats.json').write_text(json.dumps(content))


def event(kind='loss_spike', at=14, **changes):
    return {'kind': kind, 'severity': 'warning', 'subjects': ['loss'], 'first_epoch': 1, 'first_iter': at,
            'last_epoch': 1, 'last_iter': at, 'count': 1, 'message': f'{kind} at iter {at}',
            'worst': f'{kind} at iter {at}', **changes}
