"""A Redis cluster: values are found on whichever server has them, also while they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from opensips_py.engine.holding import Holding
from opensips_py.modules.cachedb_redis.protocol import Replies, redirection, slot_of
from scripts.testbed.redis import Redis, cluster
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

HALVES = [(0, 8191), (8192, 16383)]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cachedb_redis.so"
modparam("cachedb_redis", "cachedb_url", "redis://ADDRESS/")
route {
    t_newtran();
    $avp(key) = $hdr(X-Key);
    if ($rU == "store") async(cache_store("redis", "$avp(key)", "value of $avp(key)"), done);
    if ($rU == "add") async(cache_add("redis", "$avp(key)", 2, 60, $avp(out)), done);
    if ($rU == "raw") async(cache_raw_query("redis", "GET $avp(key)", "$avp(out)"), done);
    if ($rU == "plain") {
        cache_fetch("redis", "$avp(key)", $avp(out));
        route(done);
        exit;
    }
    async(cache_fetch("redis", "$avp(key)", $avp(out)), done);
}
route[done] { t_reply(200, "$rc $avp(out)"); }
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Redis]]:
    made = cluster(HALVES)
    yield made
    for one in made:
        one.remove()


def keys_of(server: int) -> list[str]:
    """Some keys that one of the servers has."""
    low, high = HALVES[server]
    return [key for key in (f"key{n}" for n in range(60)) if low <= slot_of(key.encode()) <= high][:10]


def test_values_are_found_on_the_server_that_has_them(
    server: Callable[..., Server], client: Callable[..., SipClient], servers: list[Redis]
) -> None:
    running = server(SCRIPT.replace("ADDRESS", servers[0].address), workers=1)
    caller = client(running.address)

    def ask(user: str, key: str) -> str:
        caller.request("OPTIONS", f"sip:{user}@{{server}}", headers=f"X-Key: {key}")
        return caller.final().reason

    for place in (0, 1):
        for key in keys_of(place):
            assert ask("store", key) == "1 <null>"
            assert servers[place].ask("GET", key).endswith(f"value of {key}\r\n")
            assert ask("fetch", key) == ask("plain", key) == ask("raw", key) == f"1 value of {key}"
    assert ask("add", "n:" + keys_of(1)[0]) == "1 2"
    # what it has learned it does not have to be told again
    key = keys_of(1)[0]
    servers[0].ask("CONFIG", "RESETSTAT")
    assert ask("fetch", key) == f"1 value of {key}"
    assert "errorstat_MOVED" not in servers[0].ask("INFO", "errorstats")


def test_values_are_found_while_their_slot_moves(
    server: Callable[..., Server], client: Callable[..., SipClient], servers: list[Redis]
) -> None:
    running = server(SCRIPT.replace("ADDRESS", servers[0].address), workers=1)
    caller = client(running.address)
    key = keys_of(0)[0]
    slot = str(slot_of(key.encode()))
    ids = [one.ask("CLUSTER", "MYID").split("\r\n")[1] for one in servers]
    servers[1].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    servers[0].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        for user, answer in (("store", "1 <null>"), ("fetch", f"1 value of {key}"), ("raw", f"1 value of {key}")):
            caller.request("OPTIONS", f"sip:{user}@{{server}}", headers=f"X-Key: {key}")
            assert caller.final().reason == answer
            if user == "store":
                servers[0].ask("MIGRATE", "127.0.0.1", str(servers[1].port), key, "0", "5000")
    finally:
        for one in servers:
            one.ask("CLUSTER", "SETSLOT", slot, "STABLE")


def test_slots() -> None:
    # from the Redis Cluster Specification
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"{user1000}.following") == slot_of(b"{user1000}.followers") == slot_of(b"user1000")
    assert slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")


def test_redirections() -> None:
    replies = Replies(3, Holding(0, ""))
    assert replies.feed(b"-MOVED 3999 127.0.0.1:6381\r\n-ASK 5 ::1:7\r\n-ERR no\r\n")
    assert [redirection(value) for value in replies.values] == [(3999, "127.0.0.1", 6381, True), (5, "::1", 7, False), None]
    assert redirection(b"MOVED 1 a:2") is None
