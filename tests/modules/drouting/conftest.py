"""Scripts that route by tables dr_* in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from opensips_py.db import database as databases
from opensips_py.db import tables as db_tables
from opensips_py.modules import db_sqlite  # noqa: F401  (the kind of database)
from opensips_py.server.process import this
from opensips_py.testing import Run, Script

TABLES = ["dr_gateways", "dr_rules", "dr_carriers", "dr_groups", "dr_partitions"]
ROWS = """
insert into dr_gateways(gwid, type, address, strip, pri_prefix, attrs, probe_mode) values
    ('g1', 1, '192.0.2.1:5061', 0, '', 'ga1', 2), ('g2', 1, '192.0.2.2', 2, '99', 'ga2', 1),
    ('g3', 2, 'sip:192.0.2.3;transport=tcp', 0, null, null, 0), ('g4', 3, '192.0.2.4', 0, '', 'ga4', 0);
insert into dr_carriers(carrierid, gwlist, flags, attrs) values
    ('c1', 'g1,g2', 0, 'ca1'), ('first', 'g2,g1', 1, 'caf');
insert into dr_rules(groupid, prefix, priority, gwlist, attrs) values
    ('1', '44', 0, 'g1,g2', 'uk'), ('1', '4420', 0, 'g2,g1', 'london'), ('1', '', 0, 'g4', 'default'),
    ('2', '1', 0, '#c1', 'low'), ('2', '1', 5, '#first,g4', 'high');
insert into dr_groups(username, domain, groupid) values ('alice', 'example.com', 2), ('bob', '', 1);
"""
HEAD = 'loadmodule "db_sqlite.so"\nloadmodule "signaling.so"\nloadmodule "drouting.so"\n'
AVPS = "".join(
    f'modparam("drouting", "{name}", "$avp({name})")\n'
    for name in ("gw_id_avp", "carrier_id_avp", "rule_id_avp", "rule_prefix_avp", "gw_priprefix_avp")
)


class Routed:
    """What one call of the script has led to."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rc = run["$avp(rc)"]
        self.ruri = None if run.context is None else run.context.ruri

    @property
    def gateway(self) -> Any:
        return self.run["$avp(gw_id_avp)"]

    @property
    def ids(self) -> Any:
        """Of the present gateway and those that follow."""
        return self.run["$(avp(gw_id_avp)[*])"]

    def __getitem__(self, name: str) -> Any:
        return self.run[f"$avp({name})"]


class Case:
    """A database, and the script that runs over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"
        self._running: Script | None = None

    def execute(self, sql: str) -> None:
        """Change the file, as another program does."""
        connection = sqlite3.connect(self.path)
        connection.executescript(sql)
        connection.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def start(
        self, statements: str, settings: str = "", routes: str = "", process: Literal["SIP receiver", "timer"] = "SIP receiver"
    ) -> Script:
        """Run a script; what ran before ends."""
        self.end()
        parameters = f'modparam("drouting", "db_url", "{self.url}")\n{AVPS}{settings}'
        text = f'{HEAD}{parameters}route {{ {statements} sl_send_reply(200, "OK"); }}\n{routes}'
        self._running = Script(text.replace("URL", self.url), process=process)
        return self._running

    def route(self, statements: str, uri: str = "sip:44123@example.com", **given: Any) -> Routed:
        """Run a script for one request. It sets ``$avp(rc)``."""
        return self.ask(self.start(statements, given.pop("settings", ""), given.pop("routes", "")), uri, **given)

    def ask(self, script: Script, uri: str = "sip:44123@example.com", **given: Any) -> Routed:
        return Routed(script.request("OPTIONS", uri, **given))

    def end(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
        databases.forget_all()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    databases.forget_all()
    made = Case(tmp_path / "case.db")
    database = databases.open(made.url)
    database.create()
    db_tables.create(database, TABLES)
    databases.forget_all()
    made.execute(ROWS)
    yield made
    made.end()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time of day."""

    def at(seconds: float) -> None:
        monkeypatch.setattr(this.clock, "wall", lambda: seconds)

    return at
