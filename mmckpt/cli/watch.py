"""``mmckpt watch``: follow a run in a browser or in this terminal, while it trains."""

from __future__ import annotations

import argparse

from mmckpt.cli.console import say
from mmckpt.cli.report import reader_of
from mmckpt.cli.watch_server import ReportServer
from mmckpt.cli.watch_terminal import follow
from mmckpt.errors import UsageError

HELP = 'follow a run while it trains, in a browser (on this machine only) or in the terminal'
EXAMPLES = """  %(prog)s work_dirs/run
  %(prog)s work_dirs/run --terminal
  ssh -L 8642:localhost:8642 me@server mmckpt watch work_dirs/run --port 8642"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``watch``."""
    parser.add_argument('work_dir', metavar='WORK_DIR', help='directory of a run, of mmckpt or stock MMEngine')
    parser.add_argument('--port', type=_port, default=0, metavar='N', help='where to serve (default: a free port)')
    parser.add_argument('--terminal', action='store_true', help='a live table here instead of a page for a browser')


def run(args: argparse.Namespace) -> int:
    """Follow the run until Ctrl-C; in the terminal until it ends."""
    reader = reader_of(args.work_dir)
    if args.terminal:
        follow(reader)
        return 0
    try:
        server = ReportServer(reader, args.port)
    except OSError as error:
        raise UsageError(f'port {args.port} cannot be used: {error}. Take another --port, or none.') from error
    with server:
        say(f'{args.work_dir} is at {server.url} (only from this machine; Ctrl-C ends it)')
        server.serve_forever()
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'expected a port from 0 to 65535, got {text}')
    return int(text)
