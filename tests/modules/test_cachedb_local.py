"""Core functions cache_*() over module cachedb_local: values that every process sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.core import functions_cache as cache
from opensips_py.modules import cachedb_local
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from scripts.testbed.server import MIError, Server
from tests.support.driven_clock import DrivenClock
from tests.support.script_context import request, value, variable
from tests.support.sip_client import SipClient


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: DrivenClock) -> Iterator[DrivenClock]:
    """The clock, in a process with a store and the engine."""
    store = LmdbStore.create(str(tmp_path), 16 << 20)
    monkeypatch.setattr(this, "store", store, raising=False)
    monkeypatch.setattr(cachedb_local.cachedb_url, "value", ["local:calls:///sessions"])
    monkeypatch.setattr(cachedb_local.cache_collections, "value", "sessions=5")
    cachedb_local.configure()
    yield clock
    store.close()


def fetched(ctx: Context, where: str, key: str) -> object:
    code = cache.cache_fetch(ctx, where, key, variable("$avp(out)"))
    return value(ctx, "$(avp(out)[0])") if code == 1 else code


def test_a_value_lasts_as_long_as_it_was_stored_for(stored: DrivenClock) -> None:
    ctx = request()
    assert cache.cache_store(ctx, "local", "short", "one", 10) == 1
    assert cache.cache_store(ctx, "local", "long", "two") == 1
    stored.now += 9
    assert fetched(ctx, "local", "short") == "one"
    stored.now += 1
    assert fetched(ctx, "local", "short") == -2
    assert fetched(ctx, "local", "long") == "two"
    assert this.store.info().entries == 2
    assert cachedb_local.remove_expired() == 1
    assert this.store.info().entries == 1
    assert cache.cache_remove(ctx, "local", "long") == 1
    assert fetched(ctx, "local", "long") == -2


def test_counters_begin_at_zero_and_keep_their_end(stored: DrivenClock) -> None:
    ctx = request()
    assert cache.cache_add(ctx, "local", "calls", 5, 10, variable("$avp(new)")) == 1
    stored.now += 8
    assert cache.cache_sub(ctx, "local", "calls", 7, 10, variable("$avp(new)")) == 1
    assert value(ctx, "$(avp(new)[0])") == -2
    assert cache.cache_counter_fetch(ctx, "local", "calls", variable("$avp(n)")) == 1
    assert value(ctx, "$(avp(n)[0])") == -2
    stored.now += 3
    assert cache.cache_counter_fetch(ctx, "local", "calls", variable("$avp(n)")) == -2
    assert cache.cache_add(ctx, "local", "calls", 1, 0) == 1
    cache.cache_store(ctx, "local", "word", "many")
    assert cache.cache_add(ctx, "local", "word", 1, 0) == -1
    assert cache.cache_counter_fetch(ctx, "local", "word", variable("$avp(n)")) == -1
    assert fetched(ctx, "local", "word") == "many"


def test_collections_are_apart(stored: DrivenClock) -> None:
    ctx = request()
    for where in ("local", "local:calls"):
        cache.cache_store(ctx, where, "k", where)
    assert fetched(ctx, "local", "k") == "local"
    assert fetched(ctx, "local:calls", "k") == "local:calls"
    assert fetched(ctx, "local:sessions", "k") == "local:calls"
    assert fetched(ctx, "local:unknown", "k") == -1
    assert fetched(ctx, "redis", "k") == -1


def test_a_chunk_is_chosen_by_a_pattern(stored: DrivenClock) -> None:
    ctx = request()
    for key in ("pass_alice", "pass_bob", "nonce_alice", "pass_" + "x" * 2000):
        cache.cache_store(ctx, "local", key, "v")
    cache.cache_store(ctx, "local:calls", "pass_alice", "v")
    assert fetched(ctx, "local", "pass_" + "x" * 2000) == "v"
    assert cachedb_local.cache_remove_chunk(ctx, None, "pass_*") == 1
    assert fetched(ctx, "local", "pass_bob") == fetched(ctx, "local", "pass_" + "x" * 2000) == -2
    assert fetched(ctx, "local", "nonce_alice") == "v"
    assert fetched(ctx, "local:calls", "pass_alice") == "v"
    assert cachedb_local.cache_remove_chunk(ctx, "sessions", "pass_[a]*") == 1
    assert fetched(ctx, "local:calls", "pass_alice") == -2


@pytest.mark.parametrize("url", ["redis:x://localhost", "local:calls:///undeclared"])
def test_a_url_that_means_nothing_is_refused(stored: DrivenClock, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(cachedb_local.cachedb_url, "value", [url])
    with pytest.raises(ConfigError, match=url):
        cachedb_local.configure()


def test_workers_and_management_share_the_cache(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(
        """
loadmodule "sl.so"
loadmodule "cachedb_local.so"
modparam("cachedb_local", "cachedb_url", "local:g:///extra")
modparam("cachedb_local", "cache_collections", "extra")
route {
    cache_add("local:g", "requests", 1, 0, $var(n));
    sl_send_reply(200, "$var(n)");
}
""",
        workers=2,
    )
    user = client(running.address)
    reasons = []
    for _ in range(20):
        user.request("OPTIONS", f"sip:x@127.0.0.1:{running.port}")
        reasons.append(user.final().reason)
    assert reasons == [str(n) for n in range(1, 21)]
    assert running.mi("cache_fetch", {"system": "local:g", "attr": "requests"}) == {"key": "requests", "value": "20"}
    assert running.mi("cache_store", {"system": "local", "attr": "a", "value": "b", "expire": "1"}) == "OK"
    assert running.mi("cache_fetch", {"system": "local", "attr": "a"})["value"] == "b"
    assert running.mi("cache_remove_chunk", {"glob": "req*", "collection": "extra"}) == "OK"
    with pytest.raises(MIError, match="400 Value not found"):
        running.mi("cache_fetch", {"system": "local:g", "attr": "requests"})
    with pytest.raises(MIError, match="404"):
        running.mi("cache_remove_chunk", {"glob": "*", "collection": "none"})
