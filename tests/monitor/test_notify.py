"""Messages arrive, secrets stay secret, and nothing that hangs or fails holds anybody up."""

import logging
import socket
import sys
import threading
import time
import traceback

import pytest
from webhook_server import serving

from mmckpt.monitor.notify import MOST_WAITING, Channel, Notice, NotificationCentre, read_channels
from mmckpt.monitor.notify_channels import Command, DeliveryError, Webhook

SECRET = 'SECRET-TOKEN'


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


def centre_of(*specs):
    return NotificationCentre(read_channels(specs), logging.getLogger('test_notify'))


def test_a_webhook_gets_the_text_as_json_that_slack_takes(monkeypatch, log):
    with serving() as (url, received):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        centre = centre_of(dict(type='webhook', url_env='MMCKPT_WEBHOOK'))
        centre.post(Notice('info', 'an epoch is over'))
        centre.post(Notice('warning', 'loss is 9 \u00e9', ('lower the lr', 'look at the data')))
        centre.close()
    assert received == [('/services/SECRET-TOKEN', 'application/json',
                         {'text': 'loss is 9 \u00e9\n- lower the lr\n- look at the data'})]
    assert not log.records


@pytest.mark.parametrize('status, reason', [(500, 'status 500'), (404, 'status 404'), (302, 'status 302')])
def test_a_server_that_refuses_is_said_once_in_a_row_and_without_its_address(monkeypatch, log, status, reason):
    with serving(status) as (url, received):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        centre = centre_of(dict(type='webhook', url_env='MMCKPT_WEBHOOK'))
        for _ in range(3):
            centre.post(Notice('error', 'loss is nan'))
        centre.close()
    assert [path for path, *_ in received] == ['/services/SECRET-TOKEN'] * 3
    assert len(log.records) == 1 and reason in log.text
    assert SECRET not in log.text and '127.0.0.1' not in log.text


def test_a_server_that_hangs_holds_up_neither_the_post_nor_another_channel_nor_the_end(monkeypatch, log, tmp_path):
    heard = tmp_path / 'heard'
    with serving(hang=threading.Event()) as (url, received):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        centre = centre_of(dict(type='webhook', url_env='MMCKPT_WEBHOOK', timeout=20),
                           dict(type='command', command=['sh', '-c', f'cat >> {heard}']))
        begin = time.monotonic()
        for n in range(MOST_WAITING + 50):
            centre.post(Notice('warning', f'message {n}'))
        assert time.monotonic() - begin < 0.5
        begin = time.monotonic()
        centre.close(timeout=0.5)
        assert time.monotonic() - begin < 1.5
        assert len(received) == 1
    until = time.monotonic() + 20
    while not (heard.exists() and heard.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    assert heard.read_text().startswith('message 0')
    assert 'were not delivered' in log.text and SECRET not in log.text


def test_a_server_that_hangs_is_given_up_after_the_time_out(monkeypatch):
    with serving(hang=threading.Event()) as (url, _):
        monkeypatch.setenv('MMCKPT_WEBHOOK', url)
        with pytest.raises(DeliveryError, match='no answer within 0.2 s'):
            Webhook('MMCKPT_WEBHOOK', timeout=0.2).send('x')


def closed_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


@pytest.mark.parametrize('url', [
    '', f'ftp://host/{SECRET}', f'{SECRET}', f'https://{SECRET}:notaport/', f'http://127.0.0.1:PORT/{SECRET}',
    f'http://[{SECRET}/', f'http://127.0.0.1:PORT/{SECRET}\n', 'http:///x',
])
def test_no_error_shows_the_address_not_even_in_its_chain(monkeypatch, url):
    url = url.replace('PORT', str(closed_port()))
    monkeypatch.setenv('MMCKPT_WEBHOOK', url)
    with pytest.raises(DeliveryError) as caught:
        Webhook('MMCKPT_WEBHOOK', timeout=2).send('x')
    shown = ''.join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert SECRET not in str(caught.value) and SECRET not in shown.replace(f"'{url}'", '')
    assert caught.value.__cause__ is None and (caught.value.__context__ is None)


def test_a_command_gets_the_text_as_argument_or_on_stdin(tmp_path):
    out = tmp_path / 'out'
    program = f'import sys; open({str(out)!r}, "w").write(repr((sys.argv[1:], sys.stdin.read())))'
    Command([sys.executable, '-c', program, 'x: {text}']).send('a "b"; $(c)\n-d')
    assert eval(out.read_text()) == (['x: a "b"; $(c)\n-d'], '')
    Command([sys.executable, '-c', program]).send('on stdin \u00e9')
    assert eval(out.read_text()) == ([], 'on stdin \u00e9')


@pytest.mark.parametrize('command, reason', [
    (['/no/such/program', SECRET], 'cannot be started .No such file'), (['false'], 'exit status 1'),
    (['sh', '-c', 'sleep 20 & sleep 20'], 'longer than 0.3 s'), (['true', '{text}' * 100_000], 'cannot be started'),
])
def test_a_command_that_fails_or_hangs_is_named_without_its_arguments(command, reason):
    begin = time.monotonic()
    with pytest.raises(DeliveryError, match=reason) as caught:
        Command(command, timeout=0.3).send('text')
    assert SECRET not in str(caught.value) and time.monotonic() - begin < 5


def test_a_text_with_a_nul_can_be_an_argument():
    Command(['true', '{text}']).send('a\x00b')


def test_after_a_success_a_failure_is_said_again(log):
    class Moody:
        answers = [DeliveryError('one'), None, DeliveryError('two'), RuntimeError(SECRET)]

        def send(self, text):
            answer = self.answers.pop(0)
            if answer is not None:
                raise answer

    centre = NotificationCentre([Channel('moody', Moody(), 'info')], logging.getLogger('test_notify'))
    for _ in range(4):
        centre.post(Notice('info', 'x'))
    centre.close()
    assert [r.getMessage().split(':')[1].split('.')[0].strip() for r in log.records] == ['one', 'two']
    assert SECRET not in log.text


@pytest.mark.parametrize('spec, message', [
    (f'https://hooks/{SECRET}', 'notify must be a list'),
    ([f'https://hooks/{SECRET}'], "type='webhook'"),
    ([dict(type=f'https://hooks/{SECRET}')], "type='webhook'"),
    ([dict(type='webhook')], 'needs url_env'),
    ([dict(type='webhook', url_env=f'https://hooks/{SECRET}')], 'the name of an environment variable'),
    ([dict(type='webhook', url_env='X', timeout=0)], 'timeout must be between'),
    ([dict(type='webhook', url_enw='X')], "Did you mean 'url_env'"),
    ([dict(type='webhook', url_env='X', min_severity='loud')], 'min_severity must be'),
    ([dict(type='command', command='mail me')], 'list of strings'),
    ([dict(type='command', command=[])], 'list of strings'),
])
def test_wrong_channels_are_refused_at_once_without_showing_what_may_be_secret(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_channels(spec)
    assert SECRET not in str(caught.value)


def test_a_missing_variable_is_a_warning_at_the_first_message_not_an_error(monkeypatch, log):
    monkeypatch.delenv('MMCKPT_WEBHOOK', raising=False)
    centre = centre_of(dict(type='webhook', url_env='MMCKPT_WEBHOOK'))
    centre.post(Notice('error', 'x'))
    centre.close()
    assert 'MMCKPT_WEBHOOK is not set' in log.text
