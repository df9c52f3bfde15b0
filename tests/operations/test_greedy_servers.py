"""Servers that answer without end: they get a portion of each turn, and a bounded part of the memory, whatever they send."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from opensips_py.clients.pools import PoolStatistics
from opensips_py.clients.service import pool as services
from opensips_py.clients.service.description import Service
from opensips_py.db.database import How
from opensips_py.db.mysql import pool as mysql_pool
from opensips_py.db.mysql.call import MysqlCall
from opensips_py.engine import holding
from opensips_py.engine.blocking_wait import drive as wait
from opensips_py.engine.holding import READ_SIZE, Holding, TooMuch
from opensips_py.engine.operation import BUSY, TIMEOUT, Operation
from opensips_py.modules.cachedb_redis.commands import CacheRawQuery
from opensips_py.modules.cachedb_redis.protocol import RedisLogin, command
from opensips_py.modules.ldap import LdapSearch
from opensips_py.modules.ldap.protocol import LdapLogin, search
from opensips_py.modules.ldap.url import parse_ldap_url
from opensips_py.modules.rest_client import pool as http_pool
from opensips_py.modules.rest_client.request import request_bytes
from opensips_py.modules.rest_client.transfer import RestGet, Targets
from opensips_py.modules.rest_client.url import parse_http_url
from opensips_py.server.process import this
from tests.operations.driving import Driver
from tests.operations.test_mysql_handshake import OK, greeting
from tests.support.greedy_server import ASKED, GreedyServer

pytestmark = pytest.mark.usefixtures("no_leaks")

LIMIT = 256 * 1024
"""What the tests allow an answer."""


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number & 255,)) + payload


def tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes((size,)) if size < 128 else b"\x84" + size.to_bytes(4, "big")
    return bytes((tag,)) + length + body


LOGIN = [packet(0, greeting()), ASKED, packet(2, OK), ASKED, packet(1, OK), ASKED]
COLUMN = packet(2, b"\3def" + b"\0" * 5 + b"\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0")
ROWS = packet(1, b"\1") + COLUMN + packet(3, b"\xfe\0\0\2\0")
BIND = tlv(0x30, tlv(2, b"\1") + tlv(0x61, b"\x0a\1\0\4\0\4\0"))
ENTRY = tlv(0x30, tlv(2, b"\2") + tlv(0x64, tlv(4, b"cn=x") + tlv(0x30, tlv(0x30, tlv(4, b"cn") + tlv(0x31, tlv(4, b"x"))))))
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def mysql(port: int) -> Operation:
    return MysqlCall(mysql_pool.pool(f"mysql://voip:x@127.0.0.1:{port}/voip"), b"select 1", How())


def http(port: int) -> Operation:
    url = parse_http_url(f"http://127.0.0.1:{port}/")
    return RestGet(url.origin, request_bytes("GET", url, [], None), Targets("$var(body)"))


def service(port: int, login: Callable[[], object], **more: int) -> services.Pool:
    offered = Service("greedy", "greedy", "test", (("127.0.0.1", port, None),), login, answer_bytes=LIMIT, **more)  # type: ignore[arg-type]
    services.offer(offered, PoolStatistics("test"))
    return services.pool("greedy")


def redis(port: int) -> Operation:
    return CacheRawQuery(service(port, lambda: RedisLogin("", 0)), command(b"GET", b"x"), ["$avp(x)", "1"])


def ldap(port: int) -> Operation:
    found = service(port, lambda: LdapLogin(3, "cn=a", "b"), read_size=8192)
    return LdapSearch(found, search(parse_ldap_url("ldap://greedy/dc=x??sub?(cn=x)")), [])


class Case(NamedTuple):
    ask: Callable[[int], Operation]
    rc: int
    """When the answer is too large."""
    opening: list[bytes]
    stream: bytes | Callable[[], Iterator[bytes]]
    bounded: bool = True
    """The limit in bytes ends it; else only its deadline does."""


def first(head: bytes, then: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([head], itertools.repeat(then))


CASES = {
    "mysql: rows": Case(mysql, -1, LOGIN, first(ROWS, packet(4, b"\1x") * 3000)),
    "mysql: a row without end": Case(mysql, -1, LOGIN, first(ROWS, packet(4, b"x" * 0xFFFFFF)[: 1 << 20])),
    "mysql: empty values": Case(mysql, -1, LOGIN, first(ROWS, packet(4, b"\0") * 3000)),
    "mysql: columns": Case(mysql, -1, LOGIN, first(packet(1, b"\xfe" + b"\xff" * 8), COLUMN * 3000)),
    "mysql: further results": Case(mysql, -1, LOGIN, packet(1, b"\0\0\0\x08\0\0\0") * 5000),
    "mysql: a row of many columns": Case(
        mysql,
        -1,
        LOGIN,
        first(packet(1, b"\xfd\x10\x27\0") + COLUMN * 10000 + packet(3, b"\xfe\0\0\2\0"), packet(4, b"\0" * 10000)),
    ),
    "http: body": Case(http, -10, [ASKED], first(HEAD + b"\r\n", b"x" * 65536)),
    "http: body with a length": Case(http, -10, [ASKED], first(HEAD + b"Content-Length: 99999999999\r\n\r\n", b"x" * 65536)),
    "http: chunks": Case(http, -10, [ASKED], first(CHUNKED, b"1\r\nx\r\n" * 5000)),
    "http: one header": Case(http, -10, [ASKED], first(HEAD + b"X: ", b"x" * 65536)),
    "http: headers": Case(http, -10, [ASKED], first(HEAD, b"X: y\r\n" * 5000)),
    "http: informational responses": Case(http, -10, [ASKED], b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 500),
    "http: extensions of a chunk": Case(http, -10, [ASKED], first(CHUNKED + b"5;", b"x=y;" * 10000)),
    "http: extensions of many chunks": Case(http, -10, [ASKED], first(CHUNKED, (b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 60)),
    "http: trailers": Case(http, -10, [ASKED], first(CHUNKED + b"0\r\n", b"X: y\r\n" * 5000)),
    "http: status line": Case(http, -10, [ASKED], first(b"HTTP/1.1 200 ", b"x" * 65536)),
    "redis: a text": Case(redis, -1, [ASKED], first(b"$999999\r\n", b"x" * 65536)),
    "redis: elements": Case(redis, -1, [ASKED], first(b"*1000\r\n", b"*1000\r\n" + b":1\r\n" * 1000)),
    "redis: an array that is announced": Case(redis, -1, [ASKED], b"*2000000000\r\n"),
    "redis: a status": Case(redis, -1, [ASKED], first(b"+", b"x" * 65536)),
    "redis: a number": Case(redis, -1, [ASKED], first(b":", b"1" * 65536)),
    "redis: arrays in arrays": Case(redis, -1, [ASKED], b"*1\r\n" * 1000),
    "ldap: entries": Case(ldap, -2, [ASKED, BIND, ASKED], ENTRY * 1000),
    "ldap: an entry that is announced": Case(ldap, -2, [ASKED, BIND, ASKED], first(b"\x30\x84\x7f\xff\xff\xff", b"x" * 65536)),
    "ldap: references": Case(ldap, -2, [ASKED, BIND, ASKED], tlv(0x30, tlv(2, b"\2") + tlv(0x73, tlv(4, b"ldap://x"))) * 1000),
    "ldap: an entry of many values": Case(
        ldap,
        -2,
        [ASKED, BIND, ASKED],
        tlv(0x30, tlv(2, b"\2") + tlv(0x64, tlv(4, b"x") + tlv(0x30, tlv(0x30, tlv(4, b"cn") + tlv(0x31, tlv(4, b"") * 9000))))),
    ),
}


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch, process: SimpleNamespace) -> Iterator[None]:
    mysql_pool._pools.clear()
    monkeypatch.setattr(mysql_pool.settings, "answer", LIMIT)
    monkeypatch.setattr(http_pool.settings, "body", LIMIT)
    before = holding.total()
    yield
    mysql_pool.close_all()
    mysql_pool._pools.clear()
    services.close_all("test")
    http_pool.pool.close()
    assert holding.total() <= before  # less: an earlier test has left something to the garbage collector


@pytest.fixture
def greedy() -> Iterator[Callable[..., GreedyServer]]:
    started: list[GreedyServer] = []

    def start(case: Case, **more: float) -> GreedyServer:
        started.append(GreedyServer(case.stream, case.opening, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("mode", ["async", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_an_answer_without_end_ends_at_its_limit(name: str, mode: str, greedy: Callable[..., GreedyServer]) -> None:
    case = CASES[name]
    op = case.ask(greedy(case).port)
    if mode == "plain":
        assert wait(op).rc == case.rc
    else:
        driver = Driver(op)
        journaled, turns = 0, 0
        while driver.result is None:
            driver.turn(1.0)
            assert len(driver.journal) - journaled <= READ_SIZE, "more than a portion in one turn"
            journaled, turns = len(driver.journal), turns + 1
        assert driver.result.rc == case.rc
        assert journaled < 3 * LIMIT
    op.close()


@pytest.mark.parametrize("name", [name for name in CASES if "announced" not in name and "arrays in" not in name])
def test_a_stream_that_goes_on_slowly_ends_at_the_deadline(name: str, greedy: Callable[..., GreedyServer]) -> None:
    """The stream is slow, so that the limits are far away; bytes that come do not put the deadline off."""
    case = CASES[name]
    op = case.ask(greedy(case, pause=0.05).port)
    done = wait(op, this.clock.now() + 0.12)
    assert done.rc in (TIMEOUT, case.rc)
    op.close()


def test_all_answers_together_are_bounded(greedy: Callable[..., GreedyServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool.settings, "body", 0)
    monkeypatch.setattr(this.program.settings, "async_memory", 1)
    case = CASES["http: body"]
    drivers = [Driver(http(greedy(case).port)) for _ in range(4)]
    while any(driver.result is None for driver in drivers):
        for driver in drivers:
            driver.turn(0.1)
            assert holding.total() < (1 << 20) + READ_SIZE
    for driver in drivers:
        assert driver.result is not None and driver.result.rc == -10
        driver.op.close()


def test_small_answers_are_taken_however_much_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this.program.settings, "async_memory", 1)
    greedy = Holding(0, "")
    with pytest.raises(TooMuch):
        greedy.take(2 << 20)
    small = Holding(0, "")
    small.take(1000)
    with pytest.raises(TooMuch):
        small.wait_with(1)
    with pytest.raises(TooMuch):
        small.take(holding.SMALL)
    greedy.release()
    Holding(0, "").take(1 << 19)


def test_questions_that_wait_are_bounded_in_bytes(greedy: Callable[..., GreedyServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this.program.settings, "async_memory", 1)
    monkeypatch.setattr(http_pool.settings, "transfers", 1)
    port = greedy(Case(http, 0, [ASKED, ASKED], b"")).port
    url = parse_http_url(f"http://127.0.0.1:{port}/")
    request = request_bytes("POST", url, [], b"x" * 300_000)
    drivers = [Driver(RestGet(url.origin, request, Targets("$var(body)"))) for _ in range(6)]
    assert [driver.result.rc if driver.result else None for driver in drivers] == [None, None, None, None, BUSY, BUSY]
    for driver in drivers:
        driver.op.close()
