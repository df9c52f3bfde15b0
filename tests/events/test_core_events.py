"""Events of the core and of the database driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipc.lmdb_store import LmdbStore
from ipc.store import StoreInfo
from opensips_py.core import store_events
from opensips_py.evi import events, subscriptions
from opensips_py.modules.event_routing.event_wait import WaitForEvent, wait
from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "db_mysql.so"
loadmodule "avpops.so"
loadmodule "event_route.so"
modparam("avpops", "db_url", "DB_URL")
modparam("db_mysql", "exec_query_threshold", 50000)
route {
    async(avp_db_query("SELECT 'x', SLEEP(0.1)", "$avp(out)"), done);
}
route[done] { t_reply(200, "$rc"); }
event_route[E_MYSQL_CONNECTION] { xlog("@@mysql $param(status) $param(url)\\n"); }
event_route[E_CORE_THRESHOLD] { xlog("@@slow $param(source) $param(time) $param(extra)\\n"); }
"""


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[MariaDB]:
    """The database, running again after the test."""
    yield mariadb
    if mariadb.process is None or mariadb.process.poll() is not None:
        mariadb.start()


def test_a_database_that_goes_and_comes_and_slow_queries_raise_events(
    server: Callable[..., Server], client: Callable[..., SipClient], database: MariaDB
) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=1)
    caller = client(running.address)
    caller.request("OPTIONS")
    assert caller.final().reason == "1"
    (slow,) = running.wait_log("@@slow")
    source, microseconds, query = slow.split("@@slow ")[1].split(" ", 2)
    assert (source, query) == ("mysql", "SELECT 'x', SLEEP(0.1)")
    assert 90_000 < int(microseconds) < 5_000_000
    database.stop()
    caller.request("OPTIONS")
    assert caller.final().reason == "-1"
    running.wait_log(f"@@mysql disconnected {database.url}")
    database.start()
    running.wait_log(f"@@mysql connected {database.url}", 10)


def test_a_store_that_fills_raises_an_event_at_each_per_cent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raised: list[tuple[str, list[tuple[str, int]]]] = []
    used = [0]
    monkeypatch.setattr(events, "wanted", lambda name: True)
    monkeypatch.setattr(events, "raise_event", lambda name, parameters: raised.append((name, parameters)))
    store = SimpleNamespace(info=lambda: StoreInfo(1000, used[0], used[0], 1))
    monkeypatch.setattr(this, "store", store, raising=False)
    monkeypatch.setattr(this, "program", SimpleNamespace(settings=SimpleNamespace(event_shm_threshold=50)), raising=False)
    for used[0] in (499, 500, 505, 510, 400, 500):
        store_events.compare()
    assert [dict(parameters)["usage"] for _, parameters in raised] == [50, 51, 50]
    assert raised[0] == ("E_CORE_SHM_THRESHOLD", [("usage", 50), ("threshold", 50), ("used", 500), ("size", 1000)])


def test_a_filter_over_a_parameter_that_is_not_given_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = LmdbStore.create(str(tmp_path), 4 << 20)
    for name, value in {"store": store, "slot": 1, "incarnation": 1}.items():
        monkeypatch.setattr(this, name, value, raising=False)
    declared = ("user", "place")

    def waits_for(*filters: tuple[str, str]) -> WaitForEvent:
        op = wait("E_X", list(filters), 60, declared)
        op.mode = "async"
        assert op.start() is None
        return op

    bob, eve, home = waits_for(("User", "bob")), waits_for(("user", "e*")), waits_for(("place", "home"), ("user", "bob"))
    subscriptions.deliver("E_X", [("place", "home")], declared)
    assert [op.advance() for op in (bob, eve, home)] == [(1, [("$avp(place)", "home")])] * 3
    bob, eve, home = waits_for(("user", "bob")), waits_for(("user", "e*")), waits_for(("place", "home"), ("user", "bob"))
    subscriptions.deliver("E_X", [("user", "bob"), ("place", "away")], declared)
    assert [op.advance() is not None for op in (bob, eve, home)] == [True, False, False]
    subscriptions.deliver("E_X", [("user", "eve"), ("place", "home")], declared)
    assert [op.advance() is not None for op in (eve, home)] == [True, False]
    home.close()
    assert store.count(subscriptions.PREFIX) == store.count(subscriptions.TOLD) == 0
    store.close()
