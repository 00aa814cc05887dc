"""Serves the report of a run to this machine, anew whenever its files have changed."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mmckpt.monitor.run_report import RunReader, to_html

# Seconds after which the page of a running training is made anew even if nothing was logged.
STALE = 15
WATCHED = ('training_stats.json', 'mmckpt_index.json', '*_*/vis_data/scalars.json', '*_*/mmckpt_events.jsonl')


class ReportServer(ThreadingHTTPServer):
    """Answers to requests from this machine for ``/`` and to nothing else.

    Args:
        reader (RunReader): The run.
        port (int): 0 takes a free one.

    Raises:
        OSError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, reader: RunReader, port: int) -> None:
        super().__init__(('127.0.0.1', port), _Answer)
        self.reader = reader
        self.url = f'http://localhost:{self.server_port}/'
        self._lock = threading.Lock()
        self._version = ''
        self._page = b''

    def page(self) -> tuple[str, bytes]:
        """Return the version and the page of the run as it is now."""
        with self._lock:
            version = f'"{hash((self._changes(), int(time.time() // STALE))):x}"'
            if version != self._version:
                self._version, self._page = version, to_html([self.reader.read()], live=True).encode()
            return self._version, self._page

    def _changes(self) -> tuple[Any, ...]:
        found = []
        for pattern in WATCHED:
            for path in sorted(Path(self.reader.work_dir).glob(pattern)):
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((str(path), status.st_mtime_ns, status.st_size))
        return tuple(found)


class _Answer(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # A page of a stranger can point a name of its own at this machine, but not change the name it asks for.
        if self.headers.get('Host', '').split(':')[0] not in ('localhost', '127.0.0.1'):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != '/':
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(*self.server.page())

    def _send(self, version: str, page: bytes) -> None:
        known = self.headers.get('If-None-Match') == version
        self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
        self.send_header('ETag', version)
        self.send_header('Cache-Control', 'no-store')
        if not known:
            self.send_header('Content-Type', 'text/html; charset=utf-8')
            self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        if not known:
            self.wfile.write(page)

    def log_message(self, *args: Any) -> None:
        """A line for each request would bury what matters."""
