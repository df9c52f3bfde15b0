"""usrloc with a database: contacts outlive the server, and rows agree with contacts whoever dies when."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py.db import Time
from opensips_py.db import database as databases
from opensips_py.db import tables as db_tables
from opensips_py.modules import db_sqlite  # noqa: F401  (the kind of database)
from opensips_py.modules.usrloc import location, rows, unwritten
from opensips_py.modules.usrloc.contact import METHODS, Contact
from opensips_py.server.process import this
from opensips_py.testing import Script
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "db_sqlite.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_url", "sqlite://{file}")
modparam("usrloc", "working_mode_preset", "single-instance-sql-{mode}")
route {{ if ($rm == "REGISTER") save("location"); else if (lookup("location")) t_reply(200, "$ru"); else t_reply(404, "None"); }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A database with an empty table location."""
    path = tmp_path / "usrloc.db"
    database = databases.open(f"sqlite://{path}")
    database.create()
    db_tables.create(database, ["location"])
    databases.forget_all()
    yield path
    databases.forget_all()


def table(file: Path, columns: str = "contact") -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(f"select {columns} from location order by contact").fetchall()
    finally:
        connection.close()


def register(script: Script, *contacts: str, expires: int = 600, headers: dict[str, str] | None = None) -> list[str]:
    return script.request(
        "REGISTER",
        "sip:example.org",
        callee="sip:alice@example.org",
        headers={"Contact": ", ".join(contacts), "Expires": str(expires), **(headers or {})},
    ).replies


def written(script: Script) -> None:
    script.wait(lambda: not this.store.count(unwritten.PREFIX))


def test_a_contact_is_written_when_it_comes_changes_and_goes(file: Path) -> None:
    with Script(SCRIPT.format(file=file, mode="write-through")) as script:
        headers = {"User-Agent": "phone", "Allow": "INVITE,ACK,OPTIONS", "Path": "<sip:edge;lr>"}
        assert register(script, '<sip:a@10.0.0.1>;q=0.5;+sip.instance="<urn:1>"', headers=headers) == ["200 OK"]
        written(script)
        what = "username, domain, contact, q, cflags, user_agent, methods, sip_instance, flags"
        assert table(file, what) == [("alice", None, "sip:a@10.0.0.1", 0.5, "", "phone", 37, "<urn:1>", 0)]
        register(script, "<sip:a@10.0.0.1>", "<sip:b@10.0.0.2>")
        written(script)
        assert table(file, "contact, q, methods") == [("sip:a@10.0.0.1", -1.0, None), ("sip:b@10.0.0.2", -1.0, None)]
        register(script, "<sip:a@10.0.0.1>", expires=0)
        written(script)
        assert table(file) == [("sip:b@10.0.0.2",)]
        assert script.mi("ul_rm", {"table_name": "location", "aor": "alice"}) == {"result": "OK"}
        written(script)
        assert table(file) == []


@pytest.mark.parametrize("mode", ["write-through", "write-back"])
def test_contacts_are_there_after_a_restart(file: Path, mode: str) -> None:
    text = SCRIPT.format(file=file, mode=mode)
    with Script(text) as script:
        register(script, "<sip:a@10.0.0.1>;q=0.2", "<sip:b@10.0.0.2>;q=0.7")
        assert script.mi("ul_flush") == {"result": "OK"}
        written(script)
    with Script(text) as script:
        assert script.request("OPTIONS", "sip:alice@example.org").replies == ["200 sip:b@10.0.0.2"]
        shown = script.mi("ul_show_contact", {"table_name": "location", "aor": "alice"})["result"]["Contacts"]
        assert [(one["Contact"], one["Q"], one["State"]) for one in shown] == [
            ("sip:b@10.0.0.2", "0.7", "CS_SYNC"),
            ("sip:a@10.0.0.1", "0.2", "CS_SYNC"),
        ]


@pytest.mark.parametrize("parameter", ['"db_mode", 1', '"sql_write_mode", "write-through"'])
def test_write_through_has_three_names(file: Path, parameter: str) -> None:
    preset = '"working_mode_preset", "single-instance-sql-write-through"'
    with Script(SCRIPT.format(file=file, mode="write-through").replace(preset, parameter)) as script:
        register(script, "<sip:a@10.0.0.1>")
        written(script)
    assert table(file) == [("sip:a@10.0.0.1",)]


def test_with_write_back_rows_are_written_by_the_timer_or_on_demand(file: Path) -> None:
    with Script(SCRIPT.format(file=file, mode="write-back")) as script:
        register(script, "<sip:a@10.0.0.1>")
        assert table(file) == []
        assert script.mi("ul_flush") == {"result": "OK"}
        assert table(file) == [("sip:a@10.0.0.1",)]


def test_what_a_killed_process_had_not_written_is_written_by_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Script(SCRIPT.format(file=file, mode="write-through")) as script:
        with monkeypatch.context() as killed:
            killed.setattr(unwritten, "write", lambda name: None)
            register(script, "<sip:a@10.0.0.1>")
        assert (table(file), this.store.count(unwritten.PREFIX)) == ([], 1)
        monkeypatch.setattr(unwritten, "_lives", lambda runner, name: False)
        ended: list[bool] = []
        unwritten.Sweep(lambda: ended.append(True))
        script.wait(lambda: bool(ended))
        written(script)
        assert table(file) == [("sip:a@10.0.0.1",)]


def test_a_database_that_refuses_is_asked_again_and_contacts_stay(file: Path) -> None:
    with Script(SCRIPT.format(file=file, mode="write-through")) as script:
        connection = sqlite3.connect(file)
        connection.execute("alter table location rename to hidden")
        assert register(script, "<sip:a@10.0.0.1>") == ["200 OK"]
        script.wait(lambda: not unwritten._under_way)
        script.mi("ul_flush")
        assert [one.uri for one in location.find("location", "alice")] == ["sip:a@10.0.0.1"]
        connection.execute("alter table hidden rename to location")
        connection.close()
        script.mi("ul_flush")
        assert table(file) == [("sip:a@10.0.0.1",)]


def test_rows_with_other_numbers_and_nonsense_are_passed_over(file: Path) -> None:
    connection = sqlite3.connect(file)
    insert = (
        "insert into location(contact_id, username, contact, expires, callid, cseq, q, methods) values(?, ?, ?, ?, ?, ?, ?, ?)"
    )
    connection.execute(insert, (17, "bob", "sip:bob@h", 2500000000, "c", 1, 1.0, None))
    connection.execute(insert, (18, "", "", "soon", "", "x", "high", "all"))
    good = Contact("sip:c@h", 0.0, "c", 1).contact_id("carol")
    connection.execute(insert, (good, "carol", "sip:c@h", 0, "c", "x", "high", "all"))
    connection.commit()
    with Script(SCRIPT.format(file=file, mode="write-through")) as script:
        assert script.request("OPTIONS", "sip:carol@example.org").replies == ["200 sip:c@h"]
        assert script.request("OPTIONS", "sip:bob@example.org").replies == ["404 None"]
    assert connection.execute("select count(*) from location").fetchone() == (3,)
    connection.close()


def test_a_contact_is_the_same_after_it_has_been_a_row(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = Contact(
        *("sip:a@h", 2500000000.0, "call", 7, 300, "phone", "sip:192.0.2.1:5060", "<sip:edge;lr>", "udp:192.0.2.7:5060"),
        *(37, 5, 0, '"<urn:1>"', "x=1"),
        modified=1700000000.0,
    )
    row = rows.row_of("alice@example.org", contact, with_domain=True)
    assert (row["username"], row["domain"]) == ("alice", "example.org")
    cells = [cell.seconds if isinstance(cell, Time) else cell for cell in row.values()]
    assert rows.contact_of(cells, True) == ("alice@example.org", contact)


def test_methods_have_the_bits_of_opensips() -> None:
    named = ("INVITE", "CANCEL", "ACK", "BYE", "INFO", "OPTIONS")
    assert [1 << METHODS.index(name) for name in named] == [1, 2, 4, 8, 16, 32]


def test_rows_of_registrations_agree_after_workers_were_killed(
    file: Path, server: Callable[..., Server], client: Callable[..., SipClient]
) -> None:
    running = server(SCRIPT.format(file=file, mode="write-through"), workers=2)
    phone = client(running.address)
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("begin immediate")  # nothing can be written
    users = [f"u{n}" for n in range(10)]
    for user in users:
        phone.send(
            "REGISTER sip:{server} SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:{user}@x>;tag={tag}\n"
            "To: <sip:{user}@x>\nCall-ID: {call_id}\nCSeq: 1 REGISTER\nContact: <sip:{user}@h>\nExpires: 600\n\n",
            user=user,
        )
        assert phone.final().status == 200
    for pid in running.pids("SIP receiver"):
        os.kill(pid, signal.SIGKILL)
    writer.execute("rollback")
    writer.close()
    _wait(file, len(users))
    assert sorted(table(file)) == sorted((f"sip:{user}@h",) for user in users)


def _wait(file: Path, count: int) -> None:
    end = this.clock.ticks() + 20_000_000_000
    while len(table(file)) < count and this.clock.ticks() < end:
        time.sleep(0.02)
