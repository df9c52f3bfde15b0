"""A private PostgreSQL server in a temporary directory, on a port of its own."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

from scripts.testbed.daemon import Daemon
from scripts.testbed.ports import free_port, wait_tcp

USER, PASSWORD = "opensips", "opensipsrw"


class Postgres(Daemon):
    """Started on construction. The account :data:`USER` may do everything. Root's is run as another user, as it insists on."""

    def __init__(self, database: str = "opensips") -> None:
        self.programs = _programs()
        super().__init__("postgres")
        self.port = free_port(socket.SOCK_STREAM)
        self.database = database
        (self.home / "password").write_text(PASSWORD)
        self.owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self.owner is not None:
            os.chmod(self.home, 0o755)
            for path in (self.home, self.home / "password"):
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        arguments = ["-U", USER, f"--pwfile={self.home}/password", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        self._run("initdb", "-D", f"{self.home}/data", *arguments)
        self.start()
        self.execute(f'CREATE DATABASE "{database}"', database="postgres")

    def _as_owner(self) -> dict[str, Any]:
        if self.owner is None:
            return {}
        return {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [f"{self.programs}/{program}", *arguments], cwd=self.home, capture_output=True, text=True, **self._as_owner()
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")

    @property
    def url(self) -> str:
        """URL as ``db_url`` parameters take it."""
        return f"postgres://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"

    def start(self) -> None:
        """Start it (again) and wait until it accepts connections."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.home} -c max_connections=300 -c fsync=off -c shared_buffers=16MB"
        with open(self.home / "log", "ab") as output:
            self.process = subprocess.Popen(
                [f"{self.programs}/postgres", "-D", f"{self.home}/data", *options.split()],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.home, **self._as_owner(),
            )  # fmt: skip
        if not wait_tcp(self.port, 30):
            raise RuntimeError(f"PostgreSQL does not start:\n{(self.home / 'log').read_text()[-2000:]}")
        self._until_ready()

    def _until_ready(self) -> None:
        while True:
            try:
                self.execute("SELECT 1", database="postgres")
                return
            except psycopg.OperationalError as error:
                if "starting up" not in str(error) and "recovery" not in str(error):
                    raise
            time.sleep(0.02)

    def execute(self, *statements: str, database: str = "") -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database or self.database, autocommit=True
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End it at once, with everything under way."""
        self._signal(signal.SIGQUIT, wait=True)


def _programs() -> Path:
    """Where initdb and postgres are."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not versions:
        raise RuntimeError("initdb is missing: apt-get install postgresql")
    return Path(versions[-1]).parent
