"""A private Redis server in a temporary directory, on a port of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

from scripts.testbed.daemon import Daemon
from scripts.testbed.ports import free_port, wait_tcp


class Redis(Daemon):
    """Started on construction. ``password`` is asked for when it is not empty; ``options`` are further settings."""

    def __init__(self, password: str = "", **options: str) -> None:
        if shutil.which("redis-server") is None:
            raise RuntimeError("redis-server is missing: apt-get install redis-server")
        super().__init__("redis")
        self.port = free_port(socket.SOCK_STREAM)
        self.password = password
        self._options = options
        self.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it (again, empty) and wait until it accepts connections."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.home), "--save", "", "--appendonly", "no"]
        if self.password:
            arguments += ["--requirepass", self.password]
        for name, value in self._options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        self.process = subprocess.Popen(
            ["redis-server", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not wait_tcp(self.port, 15):
            self.remove()
            raise RuntimeError("redis-server does not start")

    def ask(self, *words: str) -> str:
        """The raw answer to a command, as a person would see it."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            if self.password:
                connection.sendall(self._command("AUTH", self.password))
                connection.recv(100)
            connection.sendall(self._command(*words))
            return connection.recv(65536).decode("latin-1")

    @staticmethod
    def _command(*words: str) -> bytes:
        parts = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode("latin-1")), word.encode("latin-1")) for word in words)
        return b"*%d\r\n" % len(words) + parts

    def clients(self) -> int:
        """Connections to it, this one aside."""
        return self.ask("CLIENT", "LIST").count(" addr=") - 1


def cluster(slots: list[tuple[int, int]], seconds: float = 30) -> list[Redis]:
    """A Redis cluster without replicas: one server for each range of slots."""
    servers: list[Redis] = []
    try:
        for first, last in slots:
            # by default 10000 above the other port, where the kernel gives ports to whoever connects
            bus = str(free_port(socket.SOCK_STREAM))
            servers.append(Redis(cluster_enabled="yes", cluster_port=bus, cluster_node_timeout="2000"))
            servers[-1].ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            servers[0].ask("CLUSTER", "MEET", "127.0.0.1", str(servers[-1].port), bus)
        end = time.monotonic() + seconds
        while not all("cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in servers):
            if time.monotonic() > end:
                raise RuntimeError("the Redis cluster does not come together")
            time.sleep(0.05)
    except BaseException:
        for server in servers:
            server.remove()
        raise
    return servers
