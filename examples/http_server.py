"""The web server that ``demo.cfg`` asks: it takes a little time to answer, as real ones do.

Run alone: ``python examples/http_server.py [port]``.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8088
SECONDS = 0.2
"""How long each answer takes."""


class Handler(BaseHTTPRequestHandler):
    """``/hello/NAME`` greets, ``/tariff/CREDIT`` chooses a tariff."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(SECONDS)
        word, _, argument = self.path.lstrip("/").partition("/")
        if word == "hello":
            self._answer(200, f"hello {argument}")
        elif word == "tariff" and argument.isdigit():
            self._answer(200, "gold" if int(argument) > 40 else "silver")
        else:
            self._answer(404, "not found")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The SIP server's log is what is being shown."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    try:
        Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else PORT), Handler).serve_forever()
    except KeyboardInterrupt:
        pass
