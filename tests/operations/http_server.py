"""A real HTTP server for tests, on a thread, with all the manners that servers have, good and bad."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import threading
import time
from pathlib import Path


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _answer(self, code: int, body: bytes, content_type: str | None = "text/plain") -> None:
        self.send_response(code)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _abort(self) -> None:
        """Close with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        what, _, argument = self.path.lstrip("/").partition("/")
        method = getattr(self, f"on_{what}", None)
        if method is None:
            self._answer(404, b"no such page")
        else:
            method(argument)

    def do_POST(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what, _, argument = self.path.lstrip("/").partition("/")
        if what in ("close", "never", "once"):
            getattr(self, f"on_{what}")(argument)
            return
        echo = f"{self.command}|{self.headers.get('Content-Type')}|".encode() + (
            body if len(body) < 1000 else str(len(body)).encode()
        )
        self._answer(200, echo)

    do_PUT = do_POST

    def on_hello(self, argument: str) -> None:
        self._answer(200, b"hello")

    def on_empty(self, argument: str) -> None:
        self._answer(200, b"", None)

    def on_status(self, argument: str) -> None:
        if argument == "204":
            self.send_response(204)
            self.end_headers()
            return
        self._answer(int(argument), f"status {argument}".encode())

    def on_redirect(self, argument: str) -> None:
        self.send_response(302)
        self.send_header("Location", "/hello")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"moved")

    def on_headers(self, argument: str) -> None:
        lines = [f"{name}={self.headers.get(name)}" for name in ("Host", "X-Test", "X-Other", "Authorization")]
        self._answer(200, "|".join(lines).encode())

    def on_delay(self, argument: str) -> None:
        time.sleep(int(argument) / 1000)
        self._answer(200, b"slow")

    def on_chunked(self, argument: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"one ", b"two ", b"three"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.01)
        self.wfile.write(b"0\r\nX-Trailer: t\r\n\r\n")

    def on_until_close(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil ")
        time.sleep(0.02)
        self.wfile.write(b"the end")
        self.close_connection = True

    def on_big(self, argument: str) -> None:
        size = int(argument)
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        piece = bytes(range(256)) * 256
        with contextlib.suppress(OSError):
            for at in range(0, size, len(piece)):
                self.wfile.write(piece[: size - at])

    def on_halves(self, argument: str) -> None:
        """Headers and half the body soon, the rest when the test says so."""
        time.sleep(0.05)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: 10\r\n\r\nfirst")
        self.wfile.flush()
        self.server.go_on.wait(5)
        self.wfile.write(b"other")

    def on_slow_body(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)

    def on_never(self, argument: str) -> None:
        self.server.go_on.wait(5)
        self.close_connection = True

    def on_close(self, argument: str) -> None:
        self.close_connection = True

    def on_reset(self, argument: str) -> None:
        self._abort()

    def on_partial(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        self.close_connection = True

    def on_garbage(self, argument: str) -> None:
        self.wfile.write(b"220 this is not HTTP\r\n\r\n")
        self.close_connection = True

    def on_bad_status(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 abc OK\r\n\r\n")
        self.close_connection = True

    def on_continue(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._answer(200, b"continued")

    def on_surplus(self, argument: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    def on_once(self, argument: str) -> None:
        """The second request on a connection finds it closed, with no byte of a response."""
        if getattr(self, "_served", False):
            self.close_connection = True
            return
        self._served = True
        self._answer(200, b"once")


class HttpServer(http.server.ThreadingHTTPServer):
    """Listens on 127.0.0.1; with a certificate it speaks TLS."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, certificate: Path | None = None) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, object]:
        sock, address = super().get_request()
        self.connections += 1
        return sock, address

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if self._context is not None:
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except (OSError, ValueError):
                return
        try:
            super().finish_request(request, client_address)
        except OSError:
            return  # the client is gone
        finally:
            request.close()

    def close(self) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()
        self._thread.join()
