"""A private MariaDB server in a temporary directory, on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from typing import Any

import pymysql

from scripts.testbed.daemon import Daemon
from scripts.testbed.ports import free_port, wait_tcp

USER, PASSWORD = "opensips", "opensipsrw"


class MariaDB(Daemon):
    """Started on construction. The account :data:`USER` may do everything."""

    def __init__(self, database: str = "opensips") -> None:
        for program in ("mariadbd", "mariadb-install-db"):
            if self._find(program) is None:
                raise RuntimeError(f"{program} is missing: apt-get install mariadb-server")
        super().__init__("mariadb")
        self.port = free_port(socket.SOCK_STREAM)
        self.database = database
        as_root = ["--user=root"] if os.getuid() == 0 else []
        subprocess.run(
            [str(self._find("mariadb-install-db")), "--no-defaults", f"--datadir={self.home}/data", "--skip-test-db",
             "--auth-root-authentication-method=normal", *as_root],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.start()
        self.as_root(
            f"CREATE DATABASE `{database}`",
            f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON *.* TO '{USER}'@'%'",
            database=None,
        )

    @staticmethod
    def _find(program: str) -> str | None:
        return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

    @property
    def url(self) -> str:
        """URL as ``db_url`` parameters take it."""
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"

    def start(self) -> None:
        """Start it (again) and wait until it accepts connections."""
        limits = "--max-connections=4000 --back-log=1000 --thread-cache-size=1000 --open-files-limit=10000"
        small = "--innodb-buffer-pool-size=16M --innodb-log-file-size=8M --performance-schema=OFF --skip-log-bin"
        arguments = [
            "--no-defaults",
            f"--datadir={self.home}/data",
            f"--socket={self.home}/socket",
            f"--pid-file={self.home}/pid",
        ]
        arguments += [
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        arguments += [*limits.split(), *small.split(), *(["--user=root"] if os.getuid() == 0 else [])]
        with open(self.home / "log", "ab") as output:
            self.process = subprocess.Popen(
                [str(self._find("mariadbd")), *arguments], stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        if not wait_tcp(self.port, 30):
            raise RuntimeError(f"MariaDB does not start:\n{(self.home / 'log').read_text()[-2000:]}")

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with (
            pymysql.connect(
                host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=self.database, autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def as_root(self, *statements: str, database: str | None = "") -> tuple[tuple[Any, ...], ...]:
        """Run statements as root over the Unix socket, in the own database unless told otherwise; the rows of the last."""
        chosen = self.database if database == "" else database
        with (
            pymysql.connect(unix_socket=f"{self.home}/socket", user="root", database=chosen, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def stop(self) -> None:
        """Orderly shutdown; the data stays until :meth:`remove`."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM, wait=True)
