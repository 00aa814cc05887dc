"""A resume reads its file through a memory map, and training is not tied to it afterwards."""

import os

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from toy_runner import Net, make_runner

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.hooks import mapped_resume
from mmckpt.store import own_memory

EMA = dict(type='EMAHook', momentum=0.1)


def train(work_dir, epochs, **kwargs):
    runner = make_runner(work_dir, [{'AP': .1 * i} for i in range(9)], epochs=epochs, hooks=[EMA],
                         checkpoint=dict(type='mmckpt.CheckpointHook', interval=1), **kwargs)
    runner.train()
    return runner


@pytest.fixture
def reads(monkeypatch):
    """The files that were read through our loader."""
    seen = []

    def read(path, *args, **kwargs):
        seen.append(os.path.basename(path))
        return own_memory.read_checkpoint(path, *args, **kwargs)

    monkeypatch.setattr(mapped_resume, 'read_checkpoint', read)
    return seen


def loader_of_local_files():
    return CheckpointLoader._get_checkpoint_loader('file.pth')


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs /proc')
@pytest.mark.parametrize('how', [dict(resume=True), 'resume-from'])
def test_resumed_training_is_not_tied_to_its_file(tmp_path, reads, how):
    train(tmp_path, 1)
    how = dict(resume=True, load_from=str(tmp_path / 'epoch_1.pth')) if how == 'resume-from' else how
    runner = train(tmp_path, 2, **how)
    assert reads == ['epoch_1.pth']
    assert runner.epoch == 2
    with open('/proc/self/maps') as maps:
        assert not [line for line in maps if str(tmp_path) in line]


class Keeper(Net):
    """Keeps a tensor of the file instead of copying it into the one that it has."""

    def __init__(self):
        super().__init__()
        self.register_buffer('table', torch.zeros(3))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        self.table = state_dict[prefix + 'table']
        super()._load_from_state_dict(state_dict, prefix, *args)


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs /proc')
def test_model_that_keeps_a_tensor_of_the_file_gets_a_copy(tmp_path, reads):
    checkpoint = dict(type='mmckpt.CheckpointHook', interval=1)
    make_runner(tmp_path, [{'AP': .1}], epochs=1, model=Keeper(), checkpoint=checkpoint).train()
    runner = make_runner(tmp_path, [{'AP': .2}], epochs=2, model=Keeper(), checkpoint=checkpoint, resume=True)
    runner.train()
    assert reads and runner.model.table.tolist() == [0, 0, 0]
    with open('/proc/self/maps') as maps:
        assert not [line for line in maps if str(tmp_path) in line]


def test_resumed_run_equals_one_read_by_mmengine(tmp_path, reads, monkeypatch):
    results = []
    for name in ('mapped', 'plain'):
        train(tmp_path / name, 1)
        if name == 'plain':
            monkeypatch.setattr(mapped_resume.MappedResume, 'prepare', lambda self, runner: None)
        results.append(train(tmp_path / name, 3, resume=True))
    assert reads == ['epoch_1.pth']
    mapped, plain = ([*r.model.state_dict().values(),
                      *(v for s in r.optim_wrapper.state_dict()['state'].values() for v in s.values())]
                     for r in results)
    assert len(mapped) > 8 and all(torch.equal(a, b) for a, b in zip(mapped, plain))


def test_mmengines_loader_is_back_after_the_resume(tmp_path, reads):
    train(tmp_path, 1)
    train(tmp_path, 2, resume=True)
    assert reads and loader_of_local_files() is load_from_local


def test_other_files_are_left_to_mmengine(tmp_path, reads):
    train(tmp_path, 1)
    runner = make_runner(tmp_path, [], checkpoint=dict(type='mmckpt.CheckpointHook'), resume=True)
    runner._load_from = str(tmp_path / 'epoch_1.pth')
    mapped_resume.MappedResume().prepare(runner)
    torch.save({'state_dict': Net().state_dict()}, tmp_path / 'backbone.pth')
    CheckpointLoader.load_checkpoint(str(tmp_path / 'backbone.pth'))
    assert reads == []
    CheckpointLoader.load_checkpoint(runner._load_from)
    assert reads == ['epoch_1.pth'] and loader_of_local_files() is load_from_local


def test_start_from_weights_is_left_to_mmengine(tmp_path, reads):
    train(tmp_path / 'first', 1)
    train(tmp_path / 'second', 1, load_from=str(tmp_path / 'first/epoch_1.pth'))
    assert reads == []


def test_a_loader_of_the_project_stays(tmp_path, reads):
    def mine(filename, map_location):
        return load_from_local(filename, map_location)

    train(tmp_path, 1)
    CheckpointLoader.register_scheme('', mine, force=True)
    try:
        train(tmp_path, 2, resume=True)
        assert loader_of_local_files() is mine and reads == []
    finally:
        CheckpointLoader.register_scheme('', load_from_local, force=True)


def test_file_that_must_run_code_is_refused_and_mmengines_loader_is_back(tmp_path, reads):
    train(tmp_path, 1)
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    torch.save({**checkpoint, 'extra': make_runner}, tmp_path / 'foreign.pth')
    with pytest.raises(IncompatibleCheckpointError, match='make_runner'):
        train(tmp_path / 'other', 2, resume=True, load_from=str(tmp_path / 'foreign.pth'))
    assert loader_of_local_files() is load_from_local
