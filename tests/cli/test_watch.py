"""``mmckpt watch`` serves a run to this machine only and shows it in a terminal until it ends."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from logged_runs import attempt, epochs, event, record, train_line, write_attempt, write_index, write_stats
from rich.console import Console

from mmckpt.cli.watch_server import ReportServer
from mmckpt.cli.watch_terminal import follow
from mmckpt.monitor.run_report import RunReader
from mmckpt.monitor.run_report.sparkline import sparkline


@pytest.fixture
def run(tmp_path):
    """A directory of a run that is trained by this very process."""
    now = time.time()
    begin = dict(event='begin', time=now, iter=0, epoch=0, iters_per_epoch=10, max_iters=50)
    path = write_attempt(tmp_path, now, epochs(1, 3), [begin])
    write_index(tmp_path, [attempt(1, now, why=None)], [record('epoch_3.pth', 3, now)])
    (tmp_path / 'epoch_3.pth').touch()
    write_stats(tmp_path, now + 1, reason='running', events=[event(severity='error')])
    return tmp_path, path


@pytest.fixture
def server(run):
    with ReportServer(RunReader(run[0]), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.02))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path='/', **headers):
    request = urllib.request.Request(server.url.rstrip('/') + path, headers={k.replace('_', '-'): v
                                                                             for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, ''


def test_the_page_is_sent_again_only_when_the_run_has_moved(server, run):
    status, headers, before = ask(server)
    assert status == 200 and 'data-live' in before and 'loss_spike at iter 14' in before
    assert ask(server, If_None_Match=headers['ETag'])[0] == 304
    with open(run[1], 'a') as file:
        file.write(json.dumps(train_line(34)) + '\n')
    status, later, page = ask(server, If_None_Match=headers['ETag'])
    assert status == 200 and later['ETag'] != headers['ETag'] and '"x":[4,8,14,18,24,28,34]' in page


@pytest.mark.parametrize('path, headers, status', [
    ('/', {'Host': 'evil.example'}, 403), ('/', {'Host': 'localhost.evil.example:80'}, 403),
    ('/etc/passwd', {}, 404), ('/../../etc/passwd', {}, 404), ('/training_stats.json', {}, 404),
])
def test_strangers_and_other_paths_get_nothing(server, path, headers, status):
    assert ask(server, path, **headers)[0] == status


def test_it_listens_on_this_machine_only_and_takes_no_other_method(server):
    assert server.server_address[0] == '127.0.0.1'
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=5)
    connection.request('POST', '/', b'x')
    assert connection.getresponse().status == 501
    connection.close()


def test_the_command_serves_until_ctrl_c(run):
    process = subprocess.Popen([sys.executable, '-m', 'mmckpt.cli.main', 'watch', str(run[0])], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
    try:
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith('http://localhost:'))
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b'data-live' in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_named(server, mmckpt, run):
    status, _, err = mmckpt('watch', run[0], '--port', server.server_port)
    assert status == 2 and str(server.server_port) in err and 'another --port' in err


def test_a_run_that_ended_is_shown_once_in_the_terminal(on_terminal, run):
    write_index(run[0], [attempt(1, time.time() - 10)])
    write_stats(run[0], time.time(), events=[event(severity='error')])
    lines = on_terminal(100, 'watch', run[0], '--terminal')
    assert any(line.split()[:1] == ['loss'] and '█' in line and '▁' in line for line in lines)
    assert any('coco/AP' in line and '▁▅█' in line for line in lines)
    assert any('finished' in line and 'epoch 3, iteration 30' in line for line in lines)
    assert 'error: loss_spike at iter 14' in lines


@pytest.mark.parametrize('columns', [80, 100, 200])
def test_no_curve_loses_its_newest_values(on_terminal, run, columns):
    with open(run[1], 'a') as file:
        for step in range(31, 200):
            file.write(json.dumps(train_line(step, loss=1.0, decode_aux_loss_dice=0.001 * step)) + '\n')
    write_index(run[0], [attempt(1, time.time() - 10)])
    write_stats(run[0], time.time())
    lines = on_terminal(columns, 'watch', run[0], '--terminal')
    [line] = [line for line in lines if line.startswith('decode_aux_loss_dice')]
    assert line.rstrip().endswith('█') and not any('…' in line for line in lines)


def test_a_file_or_pipe_gets_plain_text_once(mmckpt, run):
    status, out, _ = mmckpt('watch', run[0], '--terminal')
    assert status == 0 and 'newest checkpoint: epoch_3.pth' in out and '\x1b' not in out
    assert 'iteration 30 of 50, about 2 s to go' in ' '.join(out.split())


def test_the_terminal_waits_for_a_run_that_has_not_begun_and_goes_on_with_one_of_stock(tmp_path):
    console = Console(force_terminal=True, width=100, record=True, file=open(os.devnull, 'w', encoding='utf-8'))
    pauses = []

    def train_on(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            write_attempt(tmp_path, time.time(), epochs(1, 1))
        if len(pauses) == 3:
            raise KeyboardInterrupt

    with console.file, pytest.raises(KeyboardInterrupt):
        follow(RunReader(tmp_path), console, train_on)
    assert 'coco/AP' in console.export_text()


def test_the_terminal_follows_a_run_until_it_ends(run):
    work_dir, scalars = run
    console = Console(force_terminal=True, width=100, record=True, file=open(os.devnull, 'w', encoding='utf-8'))
    pauses = []

    def train_on(seconds):
        pauses.append(seconds)
        with open(scalars, 'a') as file:
            file.write(json.dumps(train_line(30 + 4 * len(pauses), loss=0.25)) + '\n')
        if len(pauses) == 3:
            write_index(work_dir, [attempt(1, time.time() - 10)])
            write_stats(work_dir, time.time(), iter=42)

    with console.file:
        follow(RunReader(work_dir), console, train_on)
    text = console.export_text()
    assert len(pauses) == 3 and 'running' in text and 'finished' in text and 'iteration 42' in text


@pytest.mark.parametrize('values, log_from, drawn', [
    ([], 1e9, ''), ([1, 1, 1], 1e9, '▁▁▁'), ([0, 7], 1e9, '▁█'), ([1, 10, 100], 10, '▁▅█'), ([1, 10, 100], 1e9, '▁▁█'),
    ([float('inf')], 1e9, 'x'), (range(16), 1e9, '▁▂▃▄▅▆▇█'),
])
def test_a_sparkline_has_the_shape_of_its_curve(values, log_from, drawn):
    assert sparkline(values, 8, log_from=log_from) == drawn
