"""A real MariaDB server for tests: private folder, private socket, a port of its own."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

HOST = "127.0.0.1"
USER, PASSWORD, DATABASE = "voip", "pa:ss@word", "voip"


class MariaDB:
    """One server. ``stop`` and ``start`` may be repeated; ``close`` removes everything."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.socket = self.folder / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = ["--user=root"] if os.getuid() == 0 else []  # the packages without a service bring no account
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.folder}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *self._user,
            ],
            check=True,
            capture_output=True,
        )

    @property
    def url(self) -> str:
        """URL for scripts, over TCP."""
        return f"mysql://{USER}:{PASSWORD}@{HOST}:{self.port}/{DATABASE}"

    @property
    def socket_url(self) -> str:
        """URL for scripts, over the Unix socket."""
        return f"mysql://{USER}:{PASSWORD}@localhost/{DATABASE}?unix_socket={self.socket}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                "mariadbd",
                "--no-defaults",
                f"--datadir={self.folder}/data",
                f"--socket={self.socket}",
                f"--port={self.port}",
                f"--bind-address={HOST}",
                f"--pid-file={self.folder}/pid",
                f"--log-error={self.folder}/log",
                "--innodb-buffer-pool-size=8M",
                "--key-buffer-size=1M",
                "--performance-schema=OFF",
                "--skip-log-bin",
                "--skip-name-resolve",
                "--max-connections=600",
                "--character-set-server=utf8mb4",
                *self._user,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while True:
            try:
                self.execute("select 1")
                gc.collect()  # PyMySQL leaves a failed connection's socket in a reference cycle
                return
            except pymysql.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "MariaDB does not start"
                time.sleep(0.05)

    def prepare(self) -> None:
        """Create the database and the user of the tests."""
        self.execute(
            f"create database if not exists {DATABASE} character set utf8mb4",
            f"create user if not exists '{USER}'@'%' identified by '{PASSWORD}'",
            f"grant all on {DATABASE}.* to '{USER}'@'%'",
        )

    def execute(self, *statements: str, database: str | None = None) -> tuple[tuple[object, ...], ...]:
        """Run statements as root; the rows of the last."""
        connection = pymysql.connect(unix_socket=str(self.socket), user="root", database=database, autocommit=True)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def connections(self) -> int:
        """How many connections the tests' user has."""
        rows = self.execute(f"select count(*) from information_schema.processlist where user='{USER}'")
        return int(str(rows[0][0]))

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Stop it; SIGKILL for a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signum)
            process.wait(20)

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
