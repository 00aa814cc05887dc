"""The mirror over ``gs://``, against an emulator of Google Cloud Storage on this machine."""

from __future__ import annotations

import logging
import shutil
import socket
import uuid

import pytest
import torch
from test_checkpoint_hook import metrics, ours, train
from test_mirror import names_at, until
from toy_runner import make_runner, read_log

from mmckpt.policy.retention import KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.mirror import Mirror
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory

gcsfs = pytest.importorskip('gcsfs', reason='needs gcsfs')
emulator = pytest.importorskip('gcp_storage_emulator.server', reason='needs gcp-storage-emulator')
LOG = logging.getLogger('mmckpt')


@pytest.fixture
def bucket(monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    # Where gcsfs looks for the server; and no search for buckets of a kind that the emulator does not have.
    monkeypatch.setenv('STORAGE_EMULATOR_HOST', f'http://127.0.0.1:{port}')
    monkeypatch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
    server = emulator.create_server('127.0.0.1', port, in_memory=True)
    server.start()
    gcsfs.GCSFileSystem.clear_instance_cache()
    name = uuid.uuid4().hex
    gcsfs.GCSFileSystem().mkdir(name)
    yield f'gs://{name}'
    server.stop()


def test_a_run_goes_up_and_comes_back(open_store, save, bucket, tmp_path):
    url = f'{bucket}/pose'
    store = open_store(retention=KeepLast(1), mirror=Mirror(RemoteDirectory(url), tmp_path / 'run', LOG))
    save(store, 1)
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': .5})
    # Large enough for the resumable kind of upload.
    store.write('epoch_2.pth', {'meta': {}, 'state_dict': {'w': torch.arange(2_000_000.)}},
                progress=Progress(2, 20), roles=('periodic',))
    store.close('finished')
    assert names_at(url) == ['best_AP_epoch_1.pth', 'epoch_2.pth', INDEX_NAME]
    assert pull(RemoteDirectory(url), tmp_path / 'other', LOG, download=True).name == 'epoch_2.pth'
    assert (tmp_path / 'other' / 'epoch_2.pth').read_bytes() == (tmp_path / 'run' / 'epoch_2.pth').read_bytes()


def test_a_best_that_is_written_anew_replaces_the_old_one(open_store, state, bucket, tmp_path):
    url = f'{bucket}/pose'
    store = open_store(retention=KeepBest('best:AP', 1, 'greater'),
                       mirror=Mirror(RemoteDirectory(url), tmp_path / 'run', LOG))
    for step in (1, 2):
        store.write('best.pth', state(step), progress=Progress(step, step), roles=('best:AP',),
                    scores={'AP': step}, rules={'AP': 'greater'})
        until(store._session._mirror._is_done)
    store.close('finished')
    assert names_at(url) == ['best.pth', INDEX_NAME]
    assert pull(RemoteDirectory(url), tmp_path / 'other', LOG, download=True).epoch == 2


def test_a_training_resumes_from_it_on_a_machine_that_has_nothing(bucket, tmp_path):
    train(tmp_path / 'run', metrics('AP', .3, .8), ours(save_best='AP', out_dir=bucket))
    shutil.rmtree(tmp_path / 'run')
    runner = make_runner(tmp_path / 'run', metrics('AP', .5), epochs=3, checkpoint=ours(save_best='AP', out_dir=bucket),
                         resume=True)
    runner.train()
    assert 'Downloaded epoch_2.pth' in read_log(tmp_path / 'run') and runner.epoch == 3
    assert runner.message_hub.get_info('best_score') == .8
    assert 'epoch_3.pth' in names_at(f'{bucket}/run')
