"""rest_get(), rest_post(), rest_put(): a real HTTP server with good and bad manners."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opensips_py.engine.operation import LOST, Done
from opensips_py.modules import rest_client
from opensips_py.modules.rest_client import connection as connections
from opensips_py.modules.rest_client import pool as pools
from opensips_py.modules.rest_client.request import Header, request_bytes
from opensips_py.modules.rest_client.transfer import INTERNAL, RestGet, RestPost, Transfer
from opensips_py.modules.rest_client.url import Origin, parse_http_url
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from scripts.testbed.ports import free_port
from tests.operations.driving import Driver, Taker, drive, run, takers
from tests.operations.http_server import HttpServer

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT, TLS_PORT = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
BASE = f"http://127.0.0.1:{PORT}"


class Out:
    """A variable, as far as the module looks at it."""

    def __init__(self, text: str) -> None:
        self.text = text


B, T, C = (Out(f"$avp({name})") for name in "btc")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, private, serialization.NoEncryption()))
    return path


@pytest.fixture(scope="module")
def servers(certificate: Path) -> Iterator[tuple[HttpServer, HttpServer]]:
    plain, secure = HttpServer(PORT), HttpServer(TLS_PORT, certificate)
    yield plain, secure
    plain.close()
    secure.close()


@pytest.fixture(autouse=True)
def server(servers: tuple[HttpServer, HttpServer], process: SimpleNamespace, no_leaks: None) -> Iterator[HttpServer]:
    """The plain server; the pool of this process is empty before and after."""
    one = servers[0]
    one.requests.clear()
    one.connections = 0
    one.go_on.clear()
    before = set(os.listdir("/proc/self/fd"))
    yield one
    assert pools.pool.active == 0
    assert not pools.pool.waiting
    pools.pool.close()
    assert [one for one in pools.pool.destinations.values() if one.open or one.connecting] == []
    pools.pool.destinations.clear()
    pools.pool._pruning = False
    assert process.keeper.held == {}
    one.go_on.set()
    servers[1].go_on.set()
    until = this.clock.now() + 20  # the server is in this process: let it close its side too
    while set(os.listdir("/proc/self/fd")) - before and this.clock.now() < until:
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    for module in ("modules.rest_client.transfer", "modules.rest_client"):
        monkeypatch.setattr(f"opensips_py.{module}.log", lambda level, module, function, text: texts.append(text))
    return texts


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def change(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setattr(pools.settings, name, value)

    return change


@pytest.fixture
def taker() -> Iterator[Callable[[], Taker]]:
    yield from takers("opensips_py.modules.rest_client.transfer")


def context() -> Any:
    return SimpleNamespace(slots={})


def get(path: str, base: str = BASE, ctx: Any = None) -> Transfer:
    op = rest_client.rest_get(ctx or context(), base + path, B, T, C)
    assert isinstance(op, RestGet)
    return op


def post(path: str, body: str, ctype: str | None = None, function: Any = rest_client.rest_post) -> Transfer:
    op = function(context(), BASE + path, body, ctype, B, None, C)
    assert isinstance(op, Transfer)
    return op


def body_of(done: Done) -> object:
    return dict(done.outputs)["$avp(b)"]


def answer(body: str, ctype: str | None = "text/plain", code: int = 200) -> Done:
    outputs: list[Any] = [("$avp(c)", code), ("$avp(b)", body), ("$avp(t)", ctype)]
    return Done(1, [output for output in outputs if output[1] is not None])


@pytest.mark.parametrize("mode", ["plain", "async", "launch"])
@pytest.mark.parametrize(
    ("path", "done"),
    [
        ("/hello", answer("hello")),
        ("/empty", answer("", "")),
        ("/status/404", answer("status 404", code=404)),
        ("/status/500", answer("status 500", code=500)),
        ("/status/204", answer("", "", 204)),
        ("/redirect", answer("moved", "", 302)),
        ("/delay/50", answer("slow")),
        ("/chunked", answer("one two three", "")),
        ("/until_close", answer("until the end", "a/b")),
        ("/continue", answer("continued")),
    ],
)
def test_any_response_is_rc_1(path: str, done: Done, mode: str) -> None:
    assert run(get(path), mode) == done


@pytest.mark.parametrize(
    ("path", "code"),
    [("/close", 0), ("/reset", 0), ("/partial", 200), ("/garbage", 0), ("/bad_status", 0)],
)
def test_what_is_no_response_is_an_internal_error(path: str, code: int, logged: list[str]) -> None:
    assert run(get(path)) == Done(INTERNAL, [("$avp(c)", code)])
    assert len(logged) == 1


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run(get("/x", f"http://127.0.0.1:{port}")) == Done(-1, [("$avp(c)", 0)])


def test_no_such_host() -> None:
    assert run(get("/x", "http://surely.no.such.host.invalid")) == Done(INTERNAL, [("$avp(c)", 0)])


def test_a_host_name_is_looked_up_without_blocking() -> None:
    op = get("/hello", f"http://localhost:{PORT}")
    began = this.clock.now()
    driver = Driver(op)
    assert this.clock.now() - began < 1
    assert drive(driver)[0] == answer("hello")


def test_connecting_takes_too_long(limits: Callable[..., None]) -> None:
    limits(connect_seconds=0.1)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):  # a full backlog: the kernel ignores further SYNs
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        began = this.clock.now()
        assert run(get("/x", f"http://127.0.0.1:{full.getsockname()[1]}")) == Done(-2, [("$avp(c)", 0)])
        assert 0.09 < this.clock.now() - began < 5
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(("path", "code"), [("/never", 0), ("/slow_body", 200)])
def test_the_transfer_takes_too_long(path: str, code: int, limits: Callable[..., None]) -> None:
    limits(transfer_seconds=0.1)
    began = this.clock.now()
    assert run(get(path)) == Done(-3, [("$avp(c)", code)])
    assert 0.09 < this.clock.now() - began < 5


def test_the_deadline_of_async(server: HttpServer) -> None:
    driver = Driver(get("/never"))
    while driver.op.fd_key is None:
        driver.turn(0.1)
    assert driver.op.expire().rc == -3
    driver.op.close()


def test_a_body_above_the_limit_is_refused(limits: Callable[..., None]) -> None:
    limits(body=1_000_000)
    assert run(get("/big/100000000")) == Done(INTERNAL, [("$avp(c)", 200)])
    assert run(get("/big/1000000")).rc == 1


def test_megabytes_come_whole() -> None:
    done = run(get("/big/5000000"))
    assert body_of(done) == (bytes(range(256)) * 20000)[:5_000_000].decode("latin-1")


@pytest.mark.parametrize(("function", "method"), [(rest_client.rest_post, "POST"), (rest_client.rest_put, "PUT")])
def test_bodies_are_sent_with_their_type(function: Any, method: str) -> None:
    assert run(post("/p", "data bob", "text/x", function)) == answer(f"{method}|text/x|data bob", None)
    for none in (None, ""):
        assert run(post("/p", "a=b", none, function)) == answer(f"{method}|None|a=b", None)
    assert run(post("/p", "z" * 3_000_000, "t/u", function)) == answer(f"{method}|t/u|3000000", None)


def test_header_lines_are_for_the_next_request_only() -> None:
    ctx = context()
    assert rest_client.rest_append_hf(ctx, "X-Test: hv\r\n") == 1
    assert rest_client.rest_append_hf(ctx, "X-Other: 2") == 1
    for none in ("no header", "7", "", ": x", "\xfc\xf1"):  # as curl: not sent
        assert rest_client.rest_append_hf(ctx, none) == 1
    assert rest_client.rest_append_hf(ctx, "X-Evil: 1\r\nX-Two: 2") == -1
    base = f"http://us%20er:pw@127.0.0.1:{PORT}"
    assert (
        body_of(run(get("/headers", base, ctx)))
        == f"Host=127.0.0.1:{PORT}|X-Test=hv|X-Other=2|Authorization=Basic dXMlMjBlcjpwdw=="
    )
    assert body_of(run(get("/headers", BASE, ctx))) == f"Host=127.0.0.1:{PORT}|X-Test=None|X-Other=None|Authorization=None"


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ((), "Host: h\r\nAccept: */*\r\n"),
        (("Accept: application/json", "host: other"), "Accept: application/json\r\nhost: other\r\n"),
        (("Accept:", "X-Empty;"), "Host: h\r\nX-Empty:\r\n"),
        (("Content-Length: 5",), "Host: h\r\nAccept: */*\r\n"),
    ],
)
def test_headers_of_the_script_take_the_place_of_what_is_sent_by_itself(lines: tuple[str, ...], sent: str) -> None:
    headers = [header for line in lines if (header := Header.of_line(line)) is not None]
    assert request_bytes("GET", parse_http_url("http://h/p"), headers, None) == f"GET /p HTTP/1.1\r\n{sent}\r\n".encode()


def test_a_connection_is_kept_and_the_fd_store_told_once(server: HttpServer, process: SimpleNamespace) -> None:
    for _ in range(10):
        assert run(get("/hello")) == answer("hello")
    assert server.connections == 1
    assert list(process.keeper.held) == [pools.pool.idle[Origin(False, "127.0.0.1", PORT)][0].stream.fd_key]


@pytest.mark.parametrize("path", ["/until_close", "/surplus", "/partial"])
def test_a_connection_in_doubt_is_not_kept(path: str) -> None:
    run(get(path))
    assert not pools.pool.idle


def test_a_kept_connection_that_the_server_has_closed_is_not_used(server: HttpServer) -> None:
    assert run(get("/hello")).rc == 1
    (kept,) = pools.pool.idle.values()
    sock = kept[0].stream.sock
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)
    assert run(get("/hello")).rc == 1
    assert server.connections == 2


@pytest.mark.parametrize(
    ("function", "rc", "requests"),
    [
        (None, 1, ["GET", "GET", "GET"]),
        (rest_client.rest_put, 1, ["GET", "PUT", "PUT"]),
        (rest_client.rest_post, -10, ["GET", "POST"]),
    ],
)
def test_what_may_be_repeated_is_sent_again_when_a_kept_connection_ends(
    server: HttpServer, function: Any, rc: int, requests: list[str]
) -> None:
    assert run(get("/once")).rc == 1
    op = get("/once") if function is None else post("/once", "x", None, function)
    assert run(op).rc == rc
    assert [request.split()[0] for request in server.requests] == requests


def test_unused_connections_are_closed_after_a_while() -> None:
    assert run(get("/hello")).rc == 1
    pools.pool.prune(this.clock.now() + pools.settings.idle_seconds - 1)
    assert pools.pool.idle
    pools.pool.prune(this.clock.now() + pools.settings.idle_seconds + 1)
    assert not pools.pool.idle


def test_more_transfers_than_allowed_wait_in_order(server: HttpServer, limits: Callable[..., None]) -> None:
    limits(transfers=2)
    drivers = [Driver(get("/delay/20")) for _ in range(8)]
    assert (pools.pool.active, pools.pool.waiting) == (2, 6)
    assert run(get("/hello"), "plain") == answer("hello")  # a plain call does not wait
    assert [done.rc for done in drive(*drivers)] == [1] * 8
    assert server.connections <= 3


def test_one_that_waits_may_give_up(limits: Callable[..., None]) -> None:
    limits(transfers=1)
    first, second, third = Driver(get("/delay/30")), Driver(get("/hello")), Driver(get("/hello"))
    second.op.close()
    second.result = Done(0)
    assert [done.rc for done in drive(first, third)] == [1, 1]


def test_a_hundred_at_once() -> None:
    assert [done.rc for done in drive(*(Driver(get("/delay/30")) for _ in range(100)))] == [1] * 100


def test_tls_is_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch, servers: tuple[HttpServer, HttpServer]) -> None:
    base = f"https://127.0.0.1:{TLS_PORT}"
    assert run(get("/hello", base)) == Done(INTERNAL, [("$avp(c)", 0)])
    monkeypatch.setattr(connections.tls_settings, "ca_path", str(certificate))
    assert run(get("/hello", base)) == answer("hello")
    assert run(get("/big/3000000", base)).rc == 1
    assert run(get("/hello", f"https://localhost:{TLS_PORT}")).rc == INTERNAL  # the certificate is for the address
    monkeypatch.setattr(connections.tls_settings, "verify_host", False)
    assert run(get("/hello", f"https://localhost:{TLS_PORT}")).rc == 1
    monkeypatch.setattr(connections.tls_settings, "ca_path", "")
    monkeypatch.setattr(connections.tls_settings, "verify_peer", False)
    assert run(get("/hello", base)).rc == 1


def test_tls_connections_are_kept_and_bodies_sent(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, servers: tuple[HttpServer, HttpServer]
) -> None:
    monkeypatch.setattr(connections.tls_settings, "ca_path", str(certificate))
    before = servers[1].connections
    for _ in range(3):
        op = rest_client.rest_post(context(), f"https://127.0.0.1:{TLS_PORT}/p", "z" * 2_000_000, "t/u", B)
        assert isinstance(op, RestPost)
        assert run(op).outputs == [("$avp(b)", "POST|t/u|2000000")]
    assert servers[1].connections == before + 1


def test_another_process_goes_on_with_a_half_read_response(
    taker: Callable[[], Taker], server: HttpServer, process: SimpleNamespace
) -> None:
    driver = Driver(get("/halves"))
    while not driver.journal:
        driver.turn(0.1)
    key = driver.op.fd_key or ""
    other = taker()
    other.hand_over("rest_get", driver.state, process.keeper.held[key], driver.journal)
    process.keeper.drop(key)
    driver.op.forget()
    server.go_on.set()
    assert other.result() == answer("firstother", "x/y")
    assert server.requests == ["GET /halves"]


def test_a_request_not_yet_sent_is_sent_by_the_other_process(
    taker: Callable[[], Taker], server: HttpServer, limits: Callable[..., None]
) -> None:
    limits(transfers=1)
    first, waiting = Driver(get("/delay/50")), Driver(post("/p", "once", "t/x"))
    other = taker()
    other.hand_over("rest_post", waiting.op.freeze(), [], b"")
    waiting.op.forget()
    assert other.result() == answer("POST|t/x|once", None)
    assert drive(first)[0].rc == 1
    assert server.requests.count("POST /p") == 1


def test_over_tls_only_what_may_be_repeated_goes_on_in_another_process(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, servers: tuple[HttpServer, HttpServer]
) -> None:
    monkeypatch.setattr(connections.tls_settings, "ca_path", str(certificate))
    base = f"https://127.0.0.1:{TLS_PORT}"
    op = rest_client.rest_post(context(), f"{base}/never", "x", None, B, None, C)
    for one, rc in ((get("/delay/50", base), 1), (op, LOST)):
        assert isinstance(one, Transfer)
        driver = Driver(one)
        while not one._sent:
            driver.turn(0.1)
        assert one.fd_key is None
        heir = type(one).thaw(one.freeze(), [], b"")
        one.forget()
        assert run(heir).rc == rc


def test_a_request_whose_connection_is_lost_is_sent_again_where_that_does_no_harm(
    server: HttpServer, process: SimpleNamespace
) -> None:
    for op, rc in ((get("/delay/50"), 1), (post("/p", "x", "t/x", rest_client.rest_put), 1), (post("/p", "x", "t/x"), LOST)):
        driver = Driver(op)
        while not op._sent:
            driver.turn(0.1)
        heir = type(op).thaw(op.freeze(), [], b"")
        process.keeper.drop(op.fd_key or "")
        op.forget()
        assert run(heir).rc == rc
        assert heir.repeatable == (rc == 1)
    assert server.requests.count("GET /delay/50") == server.requests.count("PUT /p") == 2


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("http://h/p?q=1#frag", (False, "h", 80), "/p?q=1"),
        ("HTTPS://H.example", (True, "h.example", 443), "/"),
        ("h:8080?x", (False, "h", 8080), "/?x"),
        ("http://[::1]:81/a b\xe4", (False, "::1", 81), "/a%20b%E4"),
    ],
)
def test_urls(text: str, origin: tuple[bool, str, int], target: str) -> None:
    url = parse_http_url(text)
    assert (tuple(url.origin)[:3], url.target) == (origin, target)


@pytest.mark.parametrize(
    "text", ["ftp://h/", "http://", "http:///x", "http://h:0/", "http://h:x/", "http://[::1/", "http://a b/"]
)
def test_bad_urls_are_an_internal_error(text: str, logged: list[str]) -> None:
    assert rest_client.rest_get(context(), text, B) == INTERNAL
    assert len(logged) == 1


@pytest.mark.parametrize(("name", "value"), [("curl_timeout", -1), ("max_async_transfers", 0), ("ssl_capath", "/no/such/folder")])
def test_bad_parameters_are_refused(name: str, value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest_client.module.params[name], "value", value)
        with pytest.raises(ConfigError, match=name):
            rest_client.configure()
    rest_client.configure()


@pytest.mark.parametrize("name", ["rest_post", "rest_put"])
def test_only_the_content_type_of_a_body_and_the_last_outputs_are_optional(name: str) -> None:
    function = rest_client.module.functions[name]
    assert [parameter.optional for parameter in function.parameters] == [False, False, True, False, True, True]
    assert function.required == 4
