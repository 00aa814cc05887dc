"""A warning is coloured on a terminal and plain everywhere else."""

import os
import sys
from types import SimpleNamespace

import pytest
import termcolor
from mmengine.logging import MMLogger

from mmckpt.hooks.training_monitor_hook import _announce
from mmckpt.monitor.events import Announcement


def say(monkeypatch, stream, log_file, name):
    with monkeypatch.context() as patch:
        for variable in ('NO_COLOR', 'ANSI_COLORS_DISABLED', 'FORCE_COLOR'):
            patch.delenv(variable, raising=False)
        patch.setenv('TERM', 'xterm')
        patch.setattr(sys, 'stdout', stream)
        logger = MMLogger(name, logger_name=name, log_file=str(log_file))
        _announce(SimpleNamespace(logger=logger), Announcement('warning', 'Loss spike at iter 20', ['data: look']))
        for handler in logger.handlers:
            handler.flush()
    stream.flush()
    return log_file.read_text()


@pytest.fixture(autouse=True)
def forget():
    """Let termcolor look at standard output again, here and after this test."""
    # Releases for Python 3.9 keep the answer under a private name.
    looks = getattr(termcolor, 'can_colorize', None) or termcolor.termcolor._can_do_colour
    clear = getattr(looks, 'cache_clear', lambda: None)
    clear()
    yield
    clear()


@pytest.mark.parametrize('terminal', [True, False])
def test_only_a_terminal_gets_colours(terminal, monkeypatch, tmp_path):
    reader, writer = os.openpty() if terminal else os.pipe()
    with open(writer, 'w', encoding='utf-8') as stream:
        in_file = say(monkeypatch, stream, tmp_path / 'run.log', f'colours_{terminal}_{os.getpid()}')
        shown = os.read(reader, 4096).decode()
    os.close(reader)
    # Yellow, for the word WARNING.
    assert ('\x1b[' in shown and '[33m' in shown.split('WARNING')[0]) == terminal
    assert 'Loss spike at iter 20' in shown and '  - data: look' in shown
    assert 'WARNING - Loss spike at iter 20' in in_file and '\x1b' not in in_file
