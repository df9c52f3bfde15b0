"""A web server for load tests: ``GET /d/MS`` is answered after MS milliseconds, with little CPU of its own.

No HTTP library: a request is found by its blank line, answers of one moment are written together from one heap.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import subprocess
import sys
import time

from scripts.testbed.ports import free_port, wait_tcp

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n5"


def serve(port: int) -> None:
    """Serve on 127.0.0.1 until killed."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    buffers: dict[int, bytes] = {}
    due: list[tuple[float, int, int, socket.socket]] = []
    order = itertools.count()

    def close(descriptor: int) -> None:
        epoll.unregister(descriptor)
        connections.pop(descriptor).close()
        del buffers[descriptor]

    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, descriptor, connection = heapq.heappop(due)
            if connections.get(descriptor) is connection:
                try:
                    connection.send(ANSWER)
                except OSError:
                    close(descriptor)
        for descriptor, _ in epoll.poll(max(0.0, due[0][0] - time.monotonic()) if due else 1.0):
            if descriptor == listener.fileno():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except BlockingIOError:
                        break
                    connection.setblocking(False)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[connection.fileno()] = connection
                    buffers[connection.fileno()] = b""
                    epoll.register(connection, select.EPOLLIN)
                continue
            try:
                data = connections[descriptor].recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                close(descriptor)
                continue
            data = buffers[descriptor] + data
            while (end := data.find(b"\r\n\r\n")) >= 0:
                path = data.split(b" ", 2)[1]
                delay = int(path[3:]) / 1000 if path.startswith(b"/d/") else 0.0
                heapq.heappush(due, (time.monotonic() + delay, next(order), descriptor, connections[descriptor]))
                data = data[end + 4 :]
            buffers[descriptor] = data


class DelayServer:
    """The server in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        self.process = subprocess.Popen([sys.executable, "-m", __name__, str(self.port)], stdin=subprocess.DEVNULL)
        if not wait_tcp(self.port, 10):
            raise RuntimeError("the web server does not start")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
