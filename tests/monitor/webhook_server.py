"""A real HTTP server that answers, fails, hangs or leads away."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(status=200, hang=None):
    """Yield address and list of received bodies; ``hang`` is an event to wait for before answering."""
    received = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            received.append((self.path, self.headers['Content-Type'], json.loads(body)))
            if hang is not None:
                hang.wait(20)
                return
            self.send_response(status)
            if status == 302:
                self.send_header('Location', f'http://127.0.0.1:{server.server_port}/elsewhere')
            self.send_header('Content-Length', '2')
            self.end_headers()
            self.wfile.write(b'ok')

        do_GET = do_POST

        def log_message(self, *args):
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(('127.0.0.1', 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.02))
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/services/SECRET-TOKEN', received
    finally:
        if hang is not None:
            hang.set()
        server.shutdown()
        server.server_close()
        thread.join()
