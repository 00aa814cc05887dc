"""What the store promises when a background thread writes."""

from __future__ import annotations

import threading
import time
import traceback

import pytest
import torch

from mmckpt.errors import SaveError
from mmckpt.policy.retention import KeepLast
from mmckpt.progress import Progress
from mmckpt.state.snapshot import Snapshot
from mmckpt.store import CheckpointStore, load_checkpoint
from mmckpt.store.backend import LocalBackend
from mmckpt.store.mode import decide
from mmckpt.store.writer import InlineQueue, ThreadQueue


class GatedBackend(LocalBackend):
    """A disk that stands still until it is told to go on."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    def create(self, path):
        if '.pth' in path.name:
            assert self.gate.wait(60), 'the test forgot to open the gate'
            if self.error is not None:
                raise self.error
        return super().create(path)


@pytest.fixture
def backend():
    gated = GatedBackend()
    yield gated
    gated.gate.set()


@pytest.fixture
def background(open_store, backend):
    return lambda **kwargs: open_store(async_save=True, stage=Snapshot(), backend=backend, **kwargs)


def test_what_training_does_after_the_call_does_not_reach_the_file(background, backend):
    store = background()
    weight, history = torch.zeros(1000), {'losses': bytearray(b'before')}
    backend.gate.clear()
    assert store.write('epoch_1.pth', {'state_dict': {'w': weight}, 'meta': {}, 'hub': [history['losses']]},
                       progress=Progress(1, 10), roles=('periodic',))
    weight.fill_(9)
    history['losses'][:] = b'after!'
    assert store.records() == []
    backend.gate.set()
    store.wait()
    path = store.directory / 'epoch_1.pth'
    assert load_checkpoint(path)['state_dict']['w'].unique().tolist() == [0.0]
    assert torch.load(path, weights_only=False)['hub'] == [bytearray(b'before')]


def test_links_and_amendments_wait_for_the_commit_of_their_source(background, backend, save):
    store = background()
    backend.gate.clear()
    save(store, 1, val_pending=True)
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',), scores={'AP': 0.5})
    store.amend(['epoch_1.pth', 'best.pth'], val_pending=False)
    assert store.records() == []
    backend.gate.set()
    store.wait()
    assert [(r.name, r.val_pending) for r in store.records()] == [('epoch_1.pth', False), ('best.pth', False)]
    assert all(store.verify(record) is None for record in store.records())


def test_a_second_save_waits_for_the_first(background, backend, save):
    store = background()
    backend.gate.clear()
    save(store, 1)
    threading.Timer(0.2, backend.gate.set).start()
    assert save(store, 2)
    assert store.blocked_seconds > 0.15
    store.wait()
    assert [r.name for r in store.records()] == ['epoch_1.pth', 'epoch_2.pth']


def test_a_second_save_is_skipped_if_asked_for(background, backend, save, said):
    store = background(on_busy='skip')
    backend.gate.clear()
    assert save(store, 1)
    assert not save(store, 2)
    assert 'epoch_2.pth is skipped: the checkpoint before it is still being written' in said()
    backend.gate.set()
    store.wait()
    assert save(store, 3)
    store.wait()
    assert [r.name for r in store.records()] == ['epoch_1.pth', 'epoch_3.pth']


def test_an_error_of_the_writer_surfaces_with_its_traceback_and_leaves_no_record(background, backend, save):
    store = background()
    save(store, 1)
    store.wait()
    backend.error = ZeroDivisionError('a bug in the disk')
    save(store, 2)
    with pytest.raises(ZeroDivisionError, match='a bug in the disk') as caught:
        store.wait()
    assert 'in create' in ''.join(traceback.format_tb(caught.value.__traceback__))
    assert [r.name for r in store.records()] == ['epoch_1.pth']
    backend.error = None
    assert save(store, 3), 'the error was raised once, and the writer works on'
    store.wait()
    assert store.newest().name == 'epoch_3.pth'


@pytest.mark.parametrize('surface', ['write', 'wait', 'close'])
def test_too_many_failures_stop_the_training_at_the_next_call(background, backend, save, surface):
    store = background(max_failures=1)
    backend.error = OSError(28, 'No space left on device')
    save(store, 1)
    calls = {'write': lambda: save(store, 2), 'wait': store.wait, 'close': lambda: store.close('finished')}
    with pytest.raises(SaveError, match='No space left on device.*1 in a row'):
        calls[surface]()


def test_closing_after_an_error_of_the_training_does_not_hide_it(background, backend, save, said):
    store = background(max_failures=1)
    backend.error = OSError(5, 'Input/output error')
    save(store, 1)
    store.close('exception', error=KeyError('the real one'))
    assert 'could not be written' in said()


def test_closing_joins_the_writer(background, backend, save):
    store = background()
    backend.gate.clear()
    save(store, 1)
    threading.Timer(0.2, backend.gate.set).start()
    store.close('signal')
    view = CheckpointStore.read(store.directory)
    assert view.latest_valid().name == 'epoch_1.pth' and view.index.attempts[-1].why == 'signal'


def test_whoever_asks_is_told_once_what_became_of_each_file(background, backend, save):
    store, told = background(on_busy='skip'), []
    ends = {name: (lambda committed, name=name: told.append((name, committed))) for name in 'abcdef'}
    backend.gate.clear()
    save(store, 1, on_end=ends['a'])
    store.link('epoch_1.pth', 'best.pth', roles=('best:AP',), on_end=ends['b'])
    store.link('epoch_9.pth', 'other.pth', roles=('best:AP',), on_end=ends['c'])
    assert not save(store, 2, on_end=ends['d'])
    assert told == [('d', False)], 'nothing is known of files that are on their way'
    backend.gate.set()
    store.wait()
    with pytest.raises(SaveError):
        store.write('x.pth', {'hook': threading.Lock()}, progress=Progress(3, 3), roles=(), on_end=ends['e'])
    backend.error = ZeroDivisionError('a bug in the disk')
    save(store, 4, on_end=ends['f'])
    store.join()
    assert told == [('d', False), ('a', True), ('b', True), ('c', False), ('e', False), ('f', False)]
    with pytest.raises(ZeroDivisionError):
        store.wait()


def test_retention_in_the_background_keeps_to_the_policy(background, save):
    store = background(retention=KeepLast(2))
    for step in range(1, 9):
        save(store, step)
    store.wait()
    assert [r.name for r in store.records()] == ['epoch_7.pth', 'epoch_8.pth']
    assert all(store.verify(record) is None for record in store.records())


def test_an_unpicklable_value_is_named_before_the_call_returns(background, state):
    store = background()
    with pytest.raises(SaveError, match=r"state\['hook'\] of the checkpoint cannot be pickled"):
        store.write('epoch_1.pth', {**state(1), 'hook': threading.Lock()}, progress=Progress(1, 1), roles=())


def test_jobs_run_in_order_on_one_kept_thread():
    queue, seen = ThreadQueue(), []
    for i in range(50):
        queue.submit(lambda i=i: seen.append((i, threading.current_thread().name)))
    queue.join()
    assert [i for i, _ in seen] == list(range(50)) and {name for _, name in seen} == {'mmckpt-writer'}


def test_a_failing_job_does_not_stop_those_behind_it_and_the_first_error_counts():
    queue, seen = ThreadQueue(), []
    for message in ('first', 'second'):
        queue.submit(lambda message=message: (_ for _ in ()).throw(ValueError(message)))
    queue.submit(lambda: seen.append(1))
    queue.join()
    assert seen == [1]
    with pytest.raises(ValueError, match='first'):
        queue.raise_error()
    queue.raise_error()


@pytest.mark.parametrize('cores, needed, available, decision, why', [
    (1, 10, 10 ** 9, False, 'one core only'), (2, 10, 10 ** 9, True, '2 cores'),
    (8, 10 ** 10, 10 ** 9, False, '10.0 GB of memory, and 1.0 GB are available'),
])
def test_auto_needs_a_spare_core_and_memory_and_says_why(cores, needed, available, decision, why):
    found, text = decide(cores, needed, available)
    assert found is decision and why in text


@pytest.mark.parametrize('cores, kind', [(1, InlineQueue), (2, ThreadQueue)])
def test_auto_decides_once_and_says_it(open_store, save, said, monkeypatch, cores, kind):
    monkeypatch.setattr('mmckpt.store.mode.usable_cores', lambda: cores)
    store = open_store(async_save='auto', stage=Snapshot())
    for step in (1, 2, 3):
        save(store, step)
    store.wait()
    assert isinstance(store._outbox._queue, kind) and len(store.records()) == 3
    assert said().count("async_save='auto': checkpoints are written") == 1


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have(monkeypatch):
    queue, gate = ThreadQueue(), threading.Event()
    queue.submit(lambda: gate.wait(30))
    monkeypatch.setattr('os.getpid', lambda: -1)
    started = time.monotonic()
    queue.join()
    assert time.monotonic() - started < 5
    monkeypatch.undo()
    gate.set()
    queue.join()
