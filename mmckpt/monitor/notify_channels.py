"""The ways to reach people: a webhook and a command."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any


class DeliveryError(Exception):
    """A message could not be delivered; the reason holds neither address nor secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET, or carry the message to a stranger."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Webhook:
    """Posts ``{"text": ...}``, which Slack, Mattermost, Rocket.Chat and Google Chat take, to a secret address.

    Args:
        url_env (str): Name of the environment variable that holds the address. It
            is read when a message is sent, and never logged.
        timeout (float): Seconds without an answer after which it is given up. Defaults to 10.

    Raises:
        ValueError: If an argument is wrong.

    Example:
        >>> Webhook('MMCKPT_WEBHOOK').name
        'webhook $MMCKPT_WEBHOOK'
    """

    ARGUMENTS = ('url_env', 'timeout')

    def __init__(self, url_env: str = '', timeout: float = 10.0) -> None:
        if not isinstance(url_env, str) or not url_env.isidentifier():
            # The value is not shown: it may be the address itself.
            raise ValueError("A webhook needs url_env, the name of an environment variable such as 'MMCKPT_WEBHOOK' "
                             'that holds its address; the address itself does not belong into a config.')
        self.url_env = url_env
        self.timeout = _checked_timeout(timeout)
        self.name = f'webhook ${url_env}'

    def send(self, text: str) -> None:
        """Post a text; any answer but 2xx is a failure."""
        url = os.environ.get(self.url_env, '')
        if not url:
            raise DeliveryError(f'the environment variable {self.url_env} is not set')
        if not url.startswith(('https://', 'http://')):
            raise DeliveryError(f'the address in {self.url_env} does not begin with https:// or http://')
        reason = _post(url, json.dumps({'text': text}).encode(), self.timeout)
        if reason:
            # Raised outside of an except block: a chained error would show the address.
            raise DeliveryError(reason)


def _post(url: str, body: bytes, timeout: float) -> str:
    """Return why a POST failed, or ``''``."""
    try:
        request = urllib.request.Request(url, body, {'Content-Type': 'application/json'})
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout):
            return ''
    except urllib.error.HTTPError as error:
        error.close()
        return f'the server answered with status {error.code}'
    except urllib.error.URLError as error:
        return f'no connection ({_plain(error.reason)})'
    except (socket.timeout, TimeoutError):
        return f'no answer within {timeout:g} s'
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f'the request failed ({_plain(error)})'


def _plain(error: Any) -> str:
    """Name an error without its text, which may hold the address."""
    number = getattr(error, 'errno', None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


class Command:
    """Runs a program; the text takes the place of ``'{text}'`` in its arguments, or is its standard input.

    Args:
        command (Sequence[str]): Program and arguments; no shell reads them.
        timeout (float): Seconds after which it is killed. Defaults to 30.

    Raises:
        ValueError: If an argument is wrong.

    Example:
        >>> Command(['true']).send('loss is nan')
    """

    ARGUMENTS = ('command', 'timeout')

    def __init__(self, command: Sequence[str] = (), timeout: float = 30.0) -> None:
        if isinstance(command, str) or not command or not all(isinstance(part, str) for part in command):
            raise ValueError(f"command must be a list of strings such as ['mail', '-s', 'training', 'me@x.org'], but "
                             f'got a {type(command).__name__}.')
        self.command = list(command)
        self.timeout = _checked_timeout(timeout)
        # Arguments may hold secrets.
        self.name = f'command {os.path.basename(self.command[0])}'

    def send(self, text: str) -> None:
        """Run the program; any exit status but 0 is a failure."""
        # No program argument can hold a NUL.
        text = text.replace('\x00', '')
        arguments = [part.replace('{text}', text) for part in self.command]
        try:
            # A session of its own: what it starts can be killed with it, and Ctrl-C is not for it.
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise DeliveryError(f'it cannot be started ({_plain(error)})') from None
        try:
            process.communicate(None if arguments != self.command else text.encode(), timeout=self.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise DeliveryError(f'it ran longer than {self.timeout:g} s and was killed') from None
        if process.returncode:
            raise DeliveryError(f'it ended with exit status {process.returncode}')


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.communicate()


def _checked_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 300:
        raise ValueError(f'timeout must be between 0 and 300 seconds, but got {timeout!r}.')
    return float(timeout)
