"""Files of stock MMEngine load with weights_only=True after ``import mmckpt``, hostile ones do nothing."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import mmckpt  # noqa: F401  What is tested is its effect.

pytestmark = pytest.mark.skipif(torch.__version__ < '2.6', reason='no usable allow-list before')

TRAIN = '''
import sys
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
{imports}

class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 1)

    def forward(self, inputs, target, mode='tensor'):
        out = self.head(inputs)
        return dict(loss=((out - target) ** 2).mean()) if mode == 'loss' else [out]

class Data(torch.utils.data.Dataset):
    metainfo = dict(
        classes=['left', 'right'], sigmas=np.array([0.025, 0.05], dtype=np.float32), palette=[(0, 1, 2)],
        joints=np.array([[0, 1], [1, 0]]), empty=np.zeros(0), name=np.str_('toy'), flag=np.bool_(True))

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return dict(inputs=torch.arange(3.) + i, target=torch.ones(1) * i)

class Score(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(acc=np.float64(0.5), count=np.int64(len(results)))

loader = dict(dataset=Data(), batch_size=2, collate_fn=dict(type='default_collate'),
              sampler=dict(type='DefaultSampler', shuffle=False))
torch.manual_seed(0)
runner = Runner(
    Net(), sys.argv[1], train_dataloader=loader, val_dataloader=loader, val_evaluator=[Score()],
    train_cfg=dict(by_epoch=True, max_epochs=int(sys.argv[2])), val_cfg=dict(),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
    param_scheduler=dict(type='OneCycleLR', eta_max=0.1, total_steps=30, by_epoch=False),
    default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='acc')),
    resume=len(sys.argv) > 3)
runner.message_hub.update_info('note', np.float32(0.25))
runner.train()
print('DONE', runner.epoch, runner.iter)
'''


def run_stock(work_dir: Path, epochs: int, resume: bool, imports: str) -> subprocess.CompletedProcess:
    script = TRAIN.format(imports=imports)
    args = [str(work_dir), str(epochs)] + ['resume'] * resume
    return subprocess.run([sys.executable, '-c', script, *args], capture_output=True, text=True, timeout=120,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.fixture(scope='module')
def stock_work_dir(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('stock')
    done = run_stock(work_dir, 2, resume=False, imports='')
    assert 'DONE 2 6' in done.stdout, done.stderr
    return work_dir


def test_a_file_of_stock_mmengine_loads_safely_and_whole(stock_work_dir):
    path = stock_work_dir / 'epoch_2.pth'
    safe, unsafe = torch.load(path, weights_only=True), torch.load(path, weights_only=False)

    histories = safe['message_hub']['log_scalars']
    assert set(histories) == set(unsafe['message_hub']['log_scalars']) >= {'train/loss', 'val/acc'}
    for name, history in histories.items():
        assert type(history) is HistoryBuffer
        for got, expected in zip(history.data, unsafe['message_hub']['log_scalars'][name].data):
            np.testing.assert_array_equal(got, expected, strict=True)
    assert histories['train/loss'].statistics('mean') == histories['train/loss'].mean()

    assert safe['param_schedulers'] == unsafe['param_schedulers']
    assert 'OneCycle' in safe['param_schedulers'][0]['anneal_func'].__qualname__
    note = safe['message_hub']['runtime_info']['note']
    assert type(note) is np.float32 and note == 0.25
    meta = safe['meta']['dataset_meta']
    for name, expected in unsafe['meta']['dataset_meta'].items():
        assert type(meta[name]) is type(expected)
        np.testing.assert_array_equal(meta[name], expected, strict=True)
    assert all(torch.equal(t, unsafe['state_dict'][k]) for k, t in safe['state_dict'].items())


def test_import_mmckpt_is_enough_for_a_stock_runner_to_resume(stock_work_dir):
    done = run_stock(stock_work_dir, 4, resume=True, imports='import mmckpt')
    assert 'DONE 4 12' in done.stdout, done.stderr
    assert 'resumed epoch: 2, iter: 6' in done.stdout + done.stderr


def test_a_loaded_history_goes_on_and_is_saved_again(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    torch.save(history, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    loaded.update(5.0)
    torch.save(copy.deepcopy(loaded), tmp_path / 'b.pth')
    assert torch.load(tmp_path / 'b.pth', weights_only=True).mean() == 3.0


@pytest.mark.parametrize('code', '?bhilqBHILQefdgFDG')
@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('core', [b'numpy.core', b'numpy._core'])
def test_numeric_arrays_and_scalars_load_from_files_of_numpy_1_and_2(tmp_path, code, order, core):
    array = np.arange(6).reshape(2, 3).astype(np.dtype(code).newbyteorder(order))
    values = [array, np.asfortranarray(array), array[:0], array[1, 1]]
    # The old file format is a bare pickle, in which a module can be renamed.
    torch.save(values, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    expected = torch.load(tmp_path / 'a.pth', weights_only=False)
    content = (tmp_path / 'a.pth').read_bytes()
    here = b'numpy._core' if b'numpy._core' in content else b'numpy.core'
    (tmp_path / 'a.pth').write_bytes(content.replace(here, core))
    for got, wanted in zip(torch.load(tmp_path / 'a.pth', weights_only=True), expected):
        assert type(got) is type(wanted) and got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted, strict=True)


@pytest.mark.parametrize('value', [
    b'', b'bytes', np.str_('text'), np.str_(''), np.array(['a', 'bcd']), np.bytes_(b'x')])
def test_text_and_bytes_load(tmp_path, value):
    torch.save(value, tmp_path / 'a.pth')
    got = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert type(got) is type(value)
    np.testing.assert_array_equal(got, value, strict=True)


class Call:
    """Pickles as the call of a function, and optionally sets a state on the result."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Pickle insists that what it writes a call of can be called."""


class Named:
    """Pickles as the global of that name, whatever lies there."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        """See ``Call``."""


class NamingPickler(pickle._Pickler):
    """Writes a ``Named`` as the bare global; only the Python pickler can."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())
        else:
            super().save(obj, save_persistent_id)


def save_hostile(value, path: Path) -> None:
    class Module:
        Pickler = NamingPickler
        dump = staticmethod(lambda obj, file, protocol: NamingPickler(file, protocol).dump(obj))
        __name__ = 'pickle'

    torch.save(value, path, pickle_module=Module, pickle_protocol=2)


BUFFER = {'max_length': 3, '_log_history': np.zeros(1), '_count_history': np.ones(1)}
ONE_CYCLE = Named('mmengine.optim.scheduler.param_scheduler', 'OneCycleParamScheduler')

HOSTILE = [
    (Call(os.system, 'touch {victim}'), 'blocked'),
    (Call(Named('os', 'system'), 'touch {victim}'), 'blocked'),
    (Call(Call(getattr, Named('shutil', 'os'), 'system'), 'touch {victim}'), 'GLOBAL shutil.os'),
    (Call(subprocess.call, ['touch', '{victim}']), 'GLOBAL commands.call'),
    (Call(eval, "open('{victim}', 'w')"), r'GLOBAL (builtins\.)?eval'),
    (functools.partial(os.system, 'touch {victim}'), 'GLOBAL functools.partial'),
    (Call(getattr, HistoryBuffer, 'register_statistics'), "asks for 'register_statistics'"),
    (Call(getattr, HistoryBuffer, '__init__'), "asks for '__init__'"),
    (Call(getattr, ONE_CYCLE, '__init__'), "asks for '__init__'"),
    (Call(getattr, np.ndarray, 'tofile'), "asks for 'tofile'"),
    (Call(getattr, torch.Tensor, 'numpy'), "asks for 'numpy'"),
    (np.array([1, 'a', None], dtype=object), "numeric or text dtype.* 'O8'"),
    (np.zeros(1, dtype=[('a', 'f8')]), "numeric or text dtype.* 'V8'"),
    (Call(np.zeros(0).__reduce__()[0], np.ndarray, (10**14,), b'b'), 'empty ndarray to fill'),
    (Call(np.float64(0).__reduce__()[0], np.dtype('f8'), b'123'), 'bytes of one NumPy scalar'),
    (Call(np.load, '{victim}'), 'GLOBAL numpy.load'),
    (Call(bytes, 10), 'bytes\\(\\) without arguments'),
    (Call(HistoryBuffer, state={'statistics_methods': {}}), 'Expected a HistoryBuffer with'),
    (Call(HistoryBuffer, state=[1]), 'Expected a HistoryBuffer with'),
    (Call(HistoryBuffer, state={**BUFFER, 'statistics_methods': {'min': os.system}}), 'blocked'),
]


@pytest.mark.parametrize('hostile, reason', HOSTILE)
def test_a_hostile_file_raises_and_does_nothing(tmp_path, hostile, reason):
    victim, path = tmp_path / 'victim', tmp_path / 'a.pth'
    before = dict(HistoryBuffer._statistics_methods)
    save_hostile({'x': with_victim(hostile, str(victim))}, path)
    with pytest.raises(pickle.UnpicklingError, match=reason):
        torch.load(path, weights_only=True)
    assert not victim.exists()
    assert HistoryBuffer._statistics_methods == before


def test_a_file_cannot_replace_the_statistics_methods_of_all_buffers(tmp_path):
    swapped = {'min': HistoryBuffer.max, 'max': HistoryBuffer.min}
    state = {**BUFFER, 'statistics_methods': swapped, 'other': 1}
    save_hostile(Call(HistoryBuffer, state=state), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert set(vars(loaded)) == set(BUFFER)
    assert HistoryBuffer([1.0, 2.0], [1, 1]).statistics('min') == 1.0


def with_victim(value, victim):
    if isinstance(value, Call):
        return Call(*(with_victim(v, victim) for v in (value.reduced[0], *value.reduced[1])),
                    state=value.reduced[2] if len(value.reduced) > 2 else None)
    if isinstance(value, list):
        return [with_victim(v, victim) for v in value]
    return value.replace('{victim}', victim) if isinstance(value, str) else value
