"""The core's cache functions on a real Redis server, plainly and in async()."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py.clients.service.description import ServiceError
from opensips_py.engine.holding import Holding
from opensips_py.modules.cachedb_redis.protocol import Replies, words_of
from opensips_py.modules.cachedb_redis.url import parse_redis_url
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.program import load
from opensips_py.server.process import this
from scripts.testbed.redis import Redis
from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cachedb_redis.so"
modparam("cachedb_redis", "cachedb_url", "redis:one://ONE/")
modparam("cachedb_redis", "cachedb_url", "redis:two://user:pa@ss@TWO/3")
modparam("cachedb_redis", "enable_raw_query_quoting", 1)
PARAMS
route {
    t_newtran();
    ROUTES
}
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Redis]:
    redis = Redis()
    yield redis
    redis.remove()


@pytest.fixture(scope="module")
def two() -> Iterator[Redis]:
    redis = Redis("pa@ss")
    yield redis
    redis.remove()


@pytest.fixture
def start(server: StartServer, one: Redis, two: Redis) -> Callable[..., Server]:
    """A server whose routes ``NAME`` call a function plainly (``p-NAME``) or in async() (``a-NAME``) and show variables."""

    def run(calls: dict[str, tuple[str, str]], params: str = "", workers: int = 1) -> Server:
        one.ask("FLUSHALL")
        two.ask("FLUSHALL")
        routes, bodies = "", ""
        for name, (call, shown) in calls.items():
            routes += f'    if ($rU == "p-{name}") {{ {call}; route({name}); exit; }}\n'
            routes += f'    if ($rU == "a-{name}") async({call}, {name});\n'
            bodies += f'route[{name}] {{ t_reply(200, "{shown}"); }}\n'
        script = SCRIPT.replace("ONE", one.address).replace("TWO", two.address).replace("PARAMS", params)
        return server(script.replace("ROUTES", routes) + bodies, workers)

    return run


def _ask(running: Server, client: MakeClient, user: str, seconds: float = 20) -> str:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{user}@{{server}}")
    return caller.final(seconds).reason


CALLS = {
    "store": ('cache_store("redis:one", "k:$rU", "value of $fU")', "$rc"),
    "expire": ('cache_store("redis:one", "gone", "x", 100)', "$rc"),
    "fetch": ('cache_fetch("redis:one", "key", $avp(out))', "$rc $avp(out)"),
    "other": ('cache_fetch("redis:two", "key", $avp(out))', "$rc $avp(out)"),
    "number": ('cache_counter_fetch("redis:one", "n", $avp(out))', "$rc $avp(out)"),
    "add": ('cache_add("redis:one", "n", 5, 0, $avp(out))', "$rc $avp(out)"),
    "sub": ('cache_sub("redis:one", "n", 3, 50)', "$rc"),
    "remove": ('cache_remove("redis:one", "key")', "$rc"),
    "nowhere": ('cache_fetch("redis:three", "key", $avp(out))', "$rc"),
    "hash": ('cache_raw_query("redis:one", "HSET h f $fU g 7")', "$rc"),
    "all": ('cache_raw_query("redis:one", "HGETALL h", "$avp(out)")', "$rc $(avp(out)[*])"),
    "some": ('cache_raw_query("redis:one", "HMGET h g none f", "$avp(out)")', "$rc $(avp(out)[*])"),
    "size": ('cache_raw_query("redis:one", "HLEN h", "$avp(out)")', "$rc $avp(out)"),
    "nil": ('cache_raw_query("redis:one", "GET none", "$avp(out)")', "$rc $avp(out)"),
    "status": ('cache_raw_query("redis:one", "SET s \'two  words\'", "$avp(out)")', "$rc $avp(out)"),
    "wrong": ('cache_raw_query("redis:one", "LPUSH h x")', "$rc"),
    "short": ('cache_raw_query("redis:one", "PING")', "$rc"),
}


def test_every_function_plainly_and_in_async(start: Callable[..., Server], client: MakeClient, one: Redis, two: Redis) -> None:
    running = start(CALLS)

    def both(name: str) -> tuple[str, str]:
        return _ask(running, client, f"p-{name}"), _ask(running, client, f"a-{name}")

    assert both("store") == ("1", "1")
    assert one.ask("GET", "k:a-store") == one.ask("GET", "k:p-store") == "$14\r\nvalue of alice\r\n"
    assert both("expire") == ("1", "1")
    assert 90 < int(one.ask("TTL", "gone")[1:]) <= 100
    assert both("fetch") == ("-2 <null>", "-2 <null>")
    one.ask("SET", "key", "first")
    two.ask("SELECT", "3")
    assert both("fetch") == ("1 first", "1 first")
    one.ask("SET", "key", "")
    assert both("fetch") == ("1 ", "1 ")
    one.ask("SET", "key", "OK")
    assert both("fetch") == ("1 OK", "1 OK")
    assert both("other") == ("-2 <null>", "-2 <null>")
    assert both("number") == ("-2 <null>", "-2 <null>")
    assert both("add") == ("1 5", "1 10")
    assert one.ask("TTL", "n") == ":-1\r\n"
    assert both("sub") == ("1", "1")
    assert int(one.ask("TTL", "n")[1:]) > 40
    assert both("number") == ("1 4", "1 4")
    one.ask("SET", "n", "four")
    assert both("number") == ("-3 <null>", "-3 <null>")
    assert both("add") == ("-1 <null>", "-1 <null>")
    assert both("remove") == ("1", "1")
    assert one.ask("EXISTS", "key") == ":0\r\n"
    assert both("nowhere") == ("-1", "-1")
    running.wait_log("no cachedb_url of module cachedb_redis gives a group 'three'")


def test_raw_queries(start: Callable[..., Server], client: MakeClient, one: Redis) -> None:
    running = start(CALLS)

    def both(name: str) -> tuple[str, str]:
        return _ask(running, client, f"p-{name}"), _ask(running, client, f"a-{name}")

    assert both("hash") == ("1", "1")
    assert both("all") == ("1 f, alice, g, 7", "1 f, alice, g, 7")
    assert both("some") == ("1 7, <null>, alice", "1 7, <null>, alice")
    assert both("size") == ("1 2", "1 2")
    assert both("nil") == ("-2 <null>", "-2 <null>")
    assert both("status") == ("1 <null>", "1 <null>")
    assert one.ask("GET", "s") == "$10\r\ntwo  words\r\n"
    assert both("wrong") == ("-1", "-1")
    running.wait_log("Redis group one: WRONGTYPE", count=2)
    assert both("short") == ("-1", "-1")


def test_management_commands_ask_redis(start: Callable[..., Server], one: Redis) -> None:
    running = start(CALLS)
    assert running.mi("cache_store", ["redis:one", "mi", "some", 100]) == "OK"
    assert running.mi("cache_fetch", ["redis:one", "mi"]) == {"key": "mi", "value": "some"}
    assert int(one.ask("TTL", "mi")[1:]) > 90
    assert running.mi("cache_remove", ["redis:one", "mi"]) == "OK"
    with pytest.raises(MIError, match="400 Value not found"):
        running.mi("cache_fetch", ["redis:one", "mi"])
    with pytest.raises(MIError, match="500 Cache fetch command failed"):
        running.mi("cache_fetch", ["redis:three", "mi"])


def test_a_frozen_server_holds_up_nobody_and_its_question_ends_in_time(
    start: Callable[..., Server], client: MakeClient, one: Redis
) -> None:
    running = start(CALLS, 'modparam("cachedb_redis", "query_timeout", 2000)')
    assert _ask(running, client, "a-fetch") == "-2 <null>"
    one.freeze()
    try:
        waiting = client(running.address)
        began = this.clock.now()
        waiting.request("OPTIONS", "sip:a-fetch@{server}")
        assert _ask(running, client, "a-other") == "-2 <null>"
        assert this.clock.now() - began < 1.8
        assert waiting.final().reason == "-1 <null>"
        assert this.clock.now() - began > 1.9
    finally:
        one.thaw()
    running.wait_log("Redis group one: no answer in time")
    assert _ask(running, client, "a-fetch") == "-2 <null>"


def test_redis_may_be_down_at_the_start_and_come_and_go(start: Callable[..., Server], client: MakeClient, one: Redis) -> None:
    running = start(CALLS)
    one.kill()
    for form in ("p", "a", "p"):
        assert _ask(running, client, f"{form}-fetch") == "-1 <null>"
    assert len(running.lines("cannot be reached")) == 1
    one.start()
    end = this.clock.now() + 20
    while _ask(running, client, "a-fetch") != "-2 <null>":
        assert this.clock.now() < end, running.log
        time.sleep(0.05)
    assert len(running.lines("Redis group one is back")) == 1
    one.kill()  # with a connection open, that nobody uses
    assert _ask(running, client, "a-fetch") == "-1 <null>"
    one.start()
    assert len(running.lines("cannot be reached")) == 2


def test_of_several_servers_the_next_is_used_when_one_is_down(
    server: StartServer, client: MakeClient, one: Redis, two: Redis
) -> None:
    script = SCRIPT.replace("ONE", f"127.0.0.1:1,{one.address}").replace("TWO", two.address).replace("PARAMS", "")
    route = 'cache_store("redis:one", "failover", "x"); t_reply(200, "$rc"); exit;'
    running = server(script.replace("ROUTES", route), 1)
    assert _ask(running, client, "x") == "1"
    assert one.ask("GET", "failover") == "$1\r\nx\r\n"
    assert len(running.lines("127.0.0.1:1 cannot be reached")) == 1


@pytest.mark.parametrize("call", ["a-slow", "l-slow"])
def test_a_worker_that_dies_loses_no_answer(server: StartServer, client: MakeClient, one: Redis, two: Redis, call: str) -> None:
    one.ask("DEL", "list")
    script = SCRIPT.replace("ONE", one.address).replace("TWO", two.address).replace("PARAMS", "")
    routes = """
    xlog("@@by $pp\\n");
    if ($rU == "a-slow") async(cache_raw_query("redis:one", "BRPOP list 20", "$avp(out)"), done);
    launch(cache_raw_query("redis:one", "BRPOP list 20", "$avp(out)"), report);
    t_reply(200, "OK");
    """
    bodies = """
    route[done] { t_reply(200, "$rc $(avp(out)[*])"); }
    route[report] { xlog("@@report $rc $(avp(out)[*])\\n"); }
    """
    running = server(script.replace("ROUTES", routes) + bodies, 3)
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{call}@{{server}}")
    (line,) = running.wait_log("@@by")
    end = this.clock.now() + 20
    while running.mi("async_list")["Count"] != 1 or one.ask("CLIENT", "LIST").count("cmd=brpop") != 1:
        assert this.clock.now() < end
        time.sleep(0.02)
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    running.wait_log("go on in another process")
    one.ask("LPUSH", "list", "late")
    if call == "a-slow":
        assert caller.final().reason == "1 list, late"
    else:
        running.wait_log("@@report 1 list, late")


def test_no_connection_is_left_behind(start: Callable[..., Server], client: MakeClient, one: Redis) -> None:
    running = start(CALLS, 'modparam("cachedb_redis", "max_connections", 2)', workers=1)
    callers = [client(running.address) for _ in range(30)]
    for caller in callers:
        caller.request("OPTIONS", "sip:a-fetch@{server}")
    for caller in callers:
        assert caller.final().reason == "-2 <null>"
    assert one.clients() <= 2
    running.stop()
    assert one.clients() == 0


# --- what is wrong ------------------------------------------------------------------------------------------------------


def test_the_checker_shows_where_a_url_is_wrong(tmp_path: Path) -> None:
    script = tmp_path / "bad.cfg"
    script.write_text(
        'socket=udp:127.0.0.1:5060\nloadmodule "proto_udp.so"\nloadmodule "cachedb_redis.so"\n'
        'modparam("cachedb_redis", "cachedb_url", "redis:a://h/")\n'
        'modparam("cachedb_redis", "cachedb_url", "redis:b://h:x/")\nroute { exit; }\n'
    )
    with pytest.raises(ScriptErrors) as failure:
        load(str(script))
    (error,) = failure.value.errors
    assert (error.line, error.severity) == (5, "error")
    assert '"redis:b://h:x/": h:x is not of the form host:port' in error.message


def test_shutdown_on_error_keeps_the_server_from_starting(server: StartServer, one: Redis, two: Redis) -> None:
    params = 'modparam("cachedb_redis", "shutdown_on_error", 1)'
    script = SCRIPT.replace("ONE", "127.0.0.1:1").replace("TWO", two.address).replace("PARAMS", params)
    with pytest.raises(RuntimeError, match=r"Redis group one cannot be reached: 127.0.0.1:1: .*; shutdown_on_error is set"):
        server(script.replace("ROUTES", "exit;"))
    server(script.replace("ROUTES", "exit;").replace("127.0.0.1:1/", one.address + "/"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("redis:x:localhost", "not of the form"),
        ("mongodb://h/", "not of the form"),
        ("redis:x://host:0/", "host:port"),
        ("redis:x://host,:1/", "host:port"),
        ("redis:x://host/name", "a number"),
        ("redis:x:///", "a host is missing"),
    ],
)
def test_a_bad_url_is_told(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_redis_url(text)


def test_urls() -> None:
    url = parse_redis_url("redis:g://user:p:w@[::1]:7000,other/2")
    assert (url.group, url.password, url.servers, url.database) == ("g", "p:w", (("::1", 7000, None), ("other", 6379, None)), 2)
    assert parse_redis_url("redis://secret@h").password == "secret"
    assert parse_redis_url("redis://h").group == ""


def test_words_of_a_raw_query() -> None:
    assert words_of(" a  'b c' \"d'e\" f", True) == ["a", "b c", "d'e", "f"]
    assert words_of("a 'b c'", False) == ["a", "'b", "c'"]
    with pytest.raises(ServiceError):
        words_of("a 'b", True)


def test_replies_come_in_pieces() -> None:
    replies = Replies(2, Holding(0, ""))
    for byte in b"$3\r\nab\xff\r\n:":
        assert not replies.feed(bytes((byte,)))
    assert replies.feed(b"5\r\n")
    assert replies.checked() == [b"ab\xff", 5]
    with pytest.raises(ServiceError):
        Replies(1, Holding(0, "")).feed(b"HTTP/1.1 400\r\n")
