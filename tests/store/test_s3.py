"""The mirror against a real S3 server on this machine, which also goes away and comes back."""

from __future__ import annotations

import logging
import socket
import uuid

import pytest
from test_mirror import names_at, until

from mmckpt.policy.retention import KeepBest, KeepLast
from mmckpt.progress import Progress
from mmckpt.store.index import INDEX_NAME
from mmckpt.store.mirror import Mirror
from mmckpt.store.pull import pull
from mmckpt.store.remote import RemoteDirectory

pytest.importorskip('s3fs', reason='needs s3fs')
server_module = pytest.importorskip('moto.server', reason="needs moto[server]")
LOG = logging.getLogger('mmckpt')
pytestmark = [pytest.mark.filterwarnings('ignore::DeprecationWarning')]


@pytest.fixture
def server(monkeypatch):
    """Start and stop the server; it forgets nothing, for its buckets live in this process."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in [('AWS_ENDPOINT_URL', f'http://127.0.0.1:{port}'), ('AWS_ACCESS_KEY_ID', 'test'),
                        ('AWS_SECRET_ACCESS_KEY', 'test'), ('AWS_DEFAULT_REGION', 'us-east-1'),
                        ('AWS_MAX_ATTEMPTS', '1')]:
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address='127.0.0.1', port=port, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(server):
    import s3fs
    s3fs.S3FileSystem.clear_instance_cache()
    name = uuid.uuid4().hex
    s3fs.S3FileSystem().mkdir(name)
    return f's3://{name}/pose'


def test_a_run_goes_up_and_comes_back(open_store, save, bucket, tmp_path):
    store = open_store(retention=KeepLast(1), mirror=Mirror(RemoteDirectory(bucket), tmp_path / 'run', LOG))
    save(store, 1)
    store.link('epoch_1.pth', 'best_AP_epoch_1.pth', roles=('best:AP',), scores={'AP': .5})
    save(store, 2)
    store.close('finished')
    assert names_at(bucket) == ['best_AP_epoch_1.pth', 'epoch_2.pth', INDEX_NAME]
    assert pull(RemoteDirectory(bucket), tmp_path / 'other', LOG, download=True).name == 'epoch_2.pth'
    assert (tmp_path / 'other' / 'epoch_2.pth').read_bytes() == (tmp_path / 'run' / 'epoch_2.pth').read_bytes()


def test_a_best_that_is_written_anew_replaces_the_old_one(open_store, state, bucket, tmp_path):
    keep = KeepBest('best:AP', 1, 'greater')
    store = open_store(retention=keep, mirror=Mirror(RemoteDirectory(bucket), tmp_path / 'run', LOG))
    for step in (1, 2):
        store.write('best.pth', state(step), progress=Progress(step, step), roles=('best:AP',),
                    scores={'AP': step}, rules={'AP': 'greater'})
        until(store._session._mirror._is_done)
    store.close('finished')
    assert names_at(bucket) == ['best.pth', INDEX_NAME]
    assert pull(RemoteDirectory(bucket), tmp_path / 'other', LOG, download=True).epoch == 2


def test_a_server_that_goes_away_delays_the_upload_and_nothing_else(open_store, save, server, bucket, tmp_path, said):
    mirror = Mirror(RemoteDirectory(bucket), tmp_path / 'run', LOG, first_delay=0.2)
    store = open_store(mirror=mirror)
    save(store, 1)
    until(mirror._is_done)
    server.stop()
    assert save(store, 2)
    until(lambda: mirror.failures > 0)
    server.start()
    store.close('finished')
    assert f'The upload to {bucket} failed' in said()
    assert names_at(bucket) == ['epoch_1.pth', 'epoch_2.pth', INDEX_NAME]
