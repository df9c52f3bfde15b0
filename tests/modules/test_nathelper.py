"""Module nathelper: user agents behind NAT are found, repaired and kept reachable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.modules.nathelper import declared, ping
from opensips_py.modules.nathelper.detect import nat_uac_test
from opensips_py.modules.nathelper.repair import add_rcv_param, fix_nated_contact, fix_nated_register, fix_nated_sdp
from opensips_py.modules.usrloc import declared as usrloc
from opensips_py.modules.usrloc import location
from opensips_py.modules.usrloc.contact import PERMANENT, Contact
from opensips_py.script.context import Context, ListenSocket, Source
from opensips_py.script.declarations import ConfigError
from opensips_py.script.flag_names import branch_flags
from opensips_py.server.process import this
from opensips_py.sip.contact_edits import current
from opensips_py.sip.message import SipMessage, parse
from scripts.testbed.server import Server
from tests.support.script_context import expand
from tests.support.sip_client import SipClient

SOCKET = ListenSocket(0, "udp", "127.0.0.1", 20700)
SECOND = ListenSocket(1, "udp", "127.0.0.1", 20710)
SDP = "v=0\r\no=a 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def message(
    *headers: str,
    via: str = "192.0.2.1:5060",
    source: tuple[str, int] = ("192.0.2.1", 5060),
    body: str = "",
    kind: str = "application/sdp",
) -> Context:
    lines = "".join(f"{line}\r\n" for line in headers)
    if body and kind:
        lines += f"Content-Type: {kind}\r\n"
    raw = (
        f"INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\n"
        f"To: <sip:b@x>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}"
    )
    return Context(parse(raw.encode()), Source(*source), SOCKET)


def after(ctx: Context) -> SipMessage:
    return parse(ctx.msg.serialise())


# --- finding -----------------------------------------------------------------------------------------------------------


def found(ctx: Context) -> set[int]:
    return {test for test in (1, 2, 4, 8, 16, 32, 64) if nat_uac_test(ctx, test) == 1}


def test_a_public_user_agent_passes_every_test() -> None:
    assert found(message("Contact: <sip:a@192.0.2.1>")) == set()
    assert nat_uac_test(message(), 127) == -1


@pytest.mark.parametrize(
    ("ctx", "tests"),
    [
        (message("Contact: <sip:a@10.0.0.5>", via="10.0.0.5"), {1, 2, 4, 32}),
        (message("Contact: <sip:a@192.0.2.1:7000>", source=("192.0.2.1", 1024)), {16, 64}),
        (message("Contact: <sip:a@172.31.0.1>"), {1, 32}),
        (message("Contact: <sip:a@172.32.0.1>"), {32}),
        (message("Contact: <sip:a@100.100.0.1>"), {1, 32}),
        (message("Contact: <sip:a@phone.example>"), {32}),
        (message(body=SDP), {8}),
        (message(body=SDP.replace("10.0.0.5", "192.0.2.1")), set()),
        (message("Contact: <sip:a@h"), set()),
        (message("Contact: <sip:a@[2001:db8::1]>", via="[2001:db8::1]:5060", source=("2001:db8::1", 5060)), set()),
    ],
)
def test_each_sign_of_nat_has_its_bit(ctx: Context, tests: set[int]) -> None:
    assert found(ctx) == tests
    assert nat_uac_test(ctx, sum(tests)) == (1 if tests else -1)


# --- repairing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "repaired"),
    [
        ('"A" <sip:alice@10.0.0.5:5060;ob>;x=1', '"A" <sip:alice@192.0.2.9:1024;ob>;x=1'),
        ("sip:10.0.0.5", "sip:192.0.2.9:1024"),
        ("sip:alice@10.0.0.5;expires=3", "sip:alice@192.0.2.9:1024;expires=3"),
        ("<sip:a@[::1]:5070?x=y>", "<sip:a@192.0.2.9:1024?x=y>"),
        ('"sip:a@h" <sip:a@h>, <sips:b@h2:1>', '"sip:a@h" <sip:a@192.0.2.9:1024>, <sips:b@192.0.2.9:1024>'),
    ],
)
def test_contacts_get_the_address_that_the_message_came_from(contact: str, repaired: str) -> None:
    ctx = message(f"Contact: {contact}", source=("192.0.2.9", 1024))
    assert fix_nated_contact(ctx) == fix_nated_contact(ctx) == 1
    assert after(ctx).value("contact") == repaired
    assert ctx.msg.value("contact") == contact


def test_parameters_are_added_to_the_uri() -> None:
    ctx = message("Contact: <sip:a@h;ob?x=y>;q=1", source=("2001:db8::1", 7))
    assert fix_nated_contact(ctx, ";nat=yes") == 1
    assert after(ctx).value("contact") == "<sip:a@[2001:db8::1]:7;nat=yes;ob?x=y>;q=1"
    bare = message("Contact: sip:a@h;foo=bar", source=("192.0.2.9", 7))
    assert fix_nated_contact(bare, ";nat=yes") == 1
    assert after(bare).value("contact") == "<sip:a@192.0.2.9:7;nat=yes>;foo=bar"


@pytest.mark.parametrize(
    ("headers", "code"), [([], 1), (["Contact: *"], 1), (["Contact: <sip:a@h"], -1), (["Contact: <tel:1>"], -1)]
)
def test_without_a_contact_of_sip_there_is_nothing_to_repair(headers: list[str], code: int) -> None:
    ctx = message(*headers)
    assert fix_nated_contact(ctx) == code
    assert ctx.msg.serialise() == ctx.msg.raw


def test_received_can_be_added_to_the_header_or_the_uri() -> None:
    header, uri = message("Contact: <sip:a@h>;q=1"), message("Contact: <sip:a@h>;q=1")
    assert add_rcv_param(header) == add_rcv_param(uri, 1) == 1
    assert after(header).value("contact") == '<sip:a@h>;q=1;received="sip:192.0.2.1:5060"'
    assert after(uri).value("contact") == '<sip:a@h;received="sip:192.0.2.1:5060">;q=1'
    assert add_rcv_param(message()) == 1


def test_the_address_of_a_register_goes_into_the_avp(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = message()
    assert fix_nated_register(ctx) == 1
    assert ctx.avps == {}
    monkeypatch.setattr(declared.AvpName, "received", "rcv")
    assert fix_nated_register(ctx) == 1
    assert ctx.avps == {"rcv": ["sip:192.0.2.1:5060"]}


@pytest.mark.parametrize(
    ("flags", "ip", "lines", "changed"),
    [
        (1, None, None, SDP + "a=direction:active\r\n"),
        (2, None, None, SDP.replace("c=IN IP4 10.0.0.5", "c=IN IP4 192.0.2.1") + "a=oldcip:10.0.0.5\r\n"),
        (8, "2001:db8::1", None, SDP.replace("1 1 IN IP4 10.0.0.5", "1 1 IN IP6 2001:db8::1") + "a=oldoip:10.0.0.5\r\n"),
        (4, None, "\r\na=x", SDP + "a=x\r\na=nortpproxy:yes\r\n"),
    ],
)
def test_sdp_is_repaired(flags: int, ip: str | None, lines: str | None, changed: str) -> None:
    ctx = message(body=SDP)
    assert fix_nated_sdp(ctx, flags, ip, lines) == 1
    assert after(ctx).body == changed
    assert after(ctx).content_length == len(changed)


def multipart(end: str) -> str:
    lines = ("--b1", "Content-Type: application/isup", "", "ABC", "--b1", "Content-Type: application/sdp", "")
    return end.join(lines) + end + SDP.replace("\r\n", end) + end + "--b1--" + end


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_sdp_in_a_part_of_the_body_is_repaired(end: str) -> None:
    ctx = message('Content-Type: multipart/mixed; boundary="b1"', body=multipart(end), kind="")
    assert fix_nated_sdp(ctx, 2) == 1
    assert f"c=IN IP4 192.0.2.1{end}" in after(ctx).body
    assert after(ctx).body.endswith(f"--b1--{end}")
    assert fix_nated_sdp(message(body="text", kind="text/plain"), 2) == 1


def test_what_reads_contacts_sees_the_repaired_ones() -> None:
    ctx = message('Contact: "A" <sip:a@10.0.0.5:5060;ob>;q=0.5, <sip:b@10.0.0.6>', source=("192.0.2.9", 1024))
    assert nat_uac_test(ctx, 1) == 1
    assert fix_nated_contact(ctx, ";x=1") == 1
    assert nat_uac_test(ctx, 1 | 32 | 64) == -1
    assert expand(ctx, "$(ct.fields(uri)[*])") == "sip:a@192.0.2.9:1024;x=1;ob, sip:b@192.0.2.9:1024;x=1"
    assert expand(ctx, "$ct.fields(q)") == "0.5"
    assert [address.value for address in current(ctx.msg)] == [
        '"A" <sip:a@192.0.2.9:1024;x=1;ob>;q=0.5',
        "<sip:b@192.0.2.9:1024;x=1>",
    ]


def test_a_stream_on_hold_stays_on_hold() -> None:
    ctx = message(body=SDP.replace("c=IN IP4 10.0.0.5", "c=IN IP4 0.0.0.0"))
    assert fix_nated_sdp(ctx, 2) == 1
    assert "c=IN IP4 0.0.0.0\r\n" in after(ctx).body
    assert fix_nated_sdp(message(), 2) == -1


# --- pinging -----------------------------------------------------------------------------------------------------------

Pings = list[tuple[str, bytes, str, int]]


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pings]:
    """What the process sends, over a store of its own."""
    sent: Pings = []

    def send(via: ListenSocket, data: bytes, host: str, port: int) -> bool:
        sent.append((via.host + f":{via.port}", data, host, port))
        return True

    store = LmdbStore.create(str(tmp_path), 32 << 20)
    monkeypatch.setattr(this, "store", store, raising=False)
    monkeypatch.setattr(this, "sockets", [SOCKET, SECOND], raising=False)
    monkeypatch.setattr(this, "send", send)
    monkeypatch.setattr(declared.natping_interval, "value", 30)
    monkeypatch.setattr(branch_flags, "names", [])
    yield sent
    store.close()


def add(aor: str, uri: str, flags: int = 0, expires: float = PERMANENT, socket: ListenSocket = SOCKET, **more: str) -> None:
    contact = Contact(uri, expires, "c", 1, branch_flags=flags, socket=socket.name, **more)  # type: ignore[arg-type]
    location.change("location", aor, lambda found: [*found, contact])


def test_every_contact_is_pinged_where_it_came_from(pings: Pings) -> None:
    add("alice", "sip:alice@10.0.0.1:5062")
    add("bob", "sip:bob@10.0.0.2", socket=SECOND, received="sip:192.0.2.2:1024")
    add("carol", "sip:carol@10.0.0.3", expires=1.0)
    assert ping.ping_all() == 2
    assert pings == [
        ("127.0.0.1:20700", b"\0\0\0\0", "10.0.0.1", 5062),
        ("127.0.0.1:20710", b"\0\0\0\0", "192.0.2.2", 1024),
    ]


def test_only_contacts_behind_nat_on_demand(pings: Pings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared.ping_nated_only, "value", 1)
    monkeypatch.setattr(usrloc.nat_bflag, "value", "NAT")
    add("alice", "sip:alice@10.0.0.1")
    add("bob", "sip:bob@10.0.0.2", flags=usrloc.nat_mask())
    assert ping.ping_all() == 1
    assert pings[0][2] == "10.0.0.2"


def test_contacts_that_want_it_are_pinged_with_a_request(pings: Pings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared.sipping_bflag, "value", "SIPPING")
    monkeypatch.setattr(declared.sipping_from, "value", "sip:pinger@example.com")
    monkeypatch.setattr(declared.force_socket, "value", "udp:127.0.0.1:20710")
    add("bob", "sip:bob@10.0.0.2", flags=declared.sipping_mask())
    assert ping.ping_all() == 1
    via, data, host, _ = pings[0]
    request = parse(data)
    assert (via, host, request.method, request.ruri) == ("127.0.0.1:20710", "10.0.0.2", "OPTIONS", "sip:bob@10.0.0.2")
    assert request.from_ is not None
    assert request.from_.uri == "sip:pinger@example.com"


def test_pinging_can_be_switched_off_and_on(pings: Pings) -> None:
    add("alice", "sip:alice@10.0.0.1")
    assert ping.nh_enable_ping() == {"Status": 1}
    assert ping.nh_enable_ping(0) == "OK"
    assert (ping.nh_enable_ping(), ping.ping_all()) == ({"Status": 0}, 0)
    assert ping.nh_enable_ping(1) == "OK"
    assert ping.ping_all() == 1


def test_a_running_server_pings(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(
        'loadmodule "sl.so"\nloadmodule "usrloc.so"\nloadmodule "registrar.so"\nloadmodule "nathelper.so"\n'
        'modparam("registrar|nathelper", "received_avp", "$avp(rcv)")\nmodparam("nathelper", "natping_interval", 1)\n'
        "route {\n  if (nat_uac_test(96)) fix_nated_register();\n  save(\"location\");\n}\n"
    )  # fmt: skip
    phone = client(running.address)
    phone.send(
        "REGISTER sip:{server} SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:a@x>;tag=1\nTo: <sip:a@x>\n"
        "Call-ID: {call_id}\nCSeq: 1 REGISTER\nContact: <sip:a@10.255.255.1>\n\n"
    )
    reply = phone.final()
    assert reply.header("Contact").endswith(f';received="sip:127.0.0.1:{phone.port}"')
    assert phone.receive().raw == "\0\0\0\0"


# --- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (declared.received_avp, "rcv"),
        (declared.natping_interval, -1),
        (declared.sipping_bflag, "X"),
        (declared.remove_on_timeout_bflag, "X"),
    ],
)
def test_a_configuration_that_cannot_be_obeyed_is_refused(monkeypatch: pytest.MonkeyPatch, param: object, value: object) -> None:
    (check,) = declared.module.config_hooks
    monkeypatch.setattr(param, "value", value)
    with pytest.raises(ConfigError):
        check()
    monkeypatch.undo()
    check()
