"""The core's script functions."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from opensips_py.core import functions
from opensips_py.net import own_address
from opensips_py.script.context import Context, ListenSocket
from opensips_py.script.flag_names import FlagNames
from opensips_py.server.process import this
from tests.support.script_context import SOCKET, expand, refused, request, value, variable, with_ruri


def call(ctx: Context, name: str, *arguments: object) -> int:
    return int(functions.module.functions[name].call(ctx, *arguments))


def test_the_ruri_is_changed_part_by_part() -> None:
    ctx = with_ruri("sip:bob:pass@h0.example:5061;tag=x?H=v")
    for name, arguments, user in (
        ("prefix", ("00",), "00bob:pass@h0.example:5061"),
        ("strip", (1,), "0bob:pass@h0.example:5061"),
        ("strip_tail", (2,), "0b:pass@h0.example:5061"),
        ("setuser", ("carol",), "carol:pass@h0.example:5061"),
        ("sethost", ("h.example",), "carol:pass@h.example:5061"),
        ("setport", ("5080",), "carol:pass@h.example:5080"),
        ("sethostport", ("h2.example:5090",), "carol:pass@h2.example:5090"),
        ("sethostport", ("[2001:db8::1]",), "carol:pass@[2001:db8::1]"),
        ("setuserpass", ("u:p",), "u:p@[2001:db8::1]"),
    ):
        assert call(ctx, name, *arguments) == 1
        assert ctx.ruri == f"sip:{user};tag=x?H=v"
    assert call(ctx, "revert_uri") == 1
    assert ctx.ruri == "sip:bob:pass@h0.example:5061;tag=x?H=v"


@pytest.mark.parametrize(
    ("uri", "name", "argument", "printed"),
    [
        ("sip:h.only", "strip", 3, "sip:h.only"),
        ("sip:h.only", "prefix", "00", "sip:00@h.only"),
        ("sip:bob@h", "strip", 10, "sip:h"),
        ("tel:+1;x=y", "sethost", "h", "tel:+1@h;x=y"),
        ("sip:bob@h:5061", "setport", "", "sip:bob@h"),
        ("sip:bob@h", "sethostport", "h2:", "sip:bob@h2:"),
        ("sip:bob@h", "setport", "x", "<null>"),
        ("sip:bob@h", "sethost", "", "<null>"),
        ("sip:bob:pw@h", "strip", 3, "<null>"),
        ("sip:bob:pw@h", "strip_tail", -1, "<null>"),
        ("tel:+1", "setport", "5060", "<null>"),
    ],
)
def test_a_ruri_is_put_together_as_text_and_one_that_is_none_reads_as_null(
    uri: str, name: str, argument: object, printed: str
) -> None:
    ctx = with_ruri(uri)
    assert call(ctx, name, argument) == 1
    assert expand(ctx, "$ru") == printed


def test_an_empty_uri_restores_the_ruri_received() -> None:
    ctx = with_ruri("sip:bob@h")
    call(ctx, "seturi", "sip:other@h")
    assert call(ctx, "seturi", "") == 1
    assert ctx.ruri == "sip:bob@h"


def test_an_advertised_port_that_is_none_changes_nothing() -> None:
    ctx = request()
    assert [call(ctx, "set_advertised_port", port) for port in ("5099", "x", "", "70000")] == [1, 1, 1, 1]
    assert ctx.slots["advertised"] == [None, 5099]


def test_the_destination() -> None:
    ctx = request()
    assert call(ctx, "isdsturiset") == -1
    call(ctx, "setdsturi", "sip:10.0.0.1")
    assert (call(ctx, "isdsturiset"), value(ctx, "$du")) == (1, "sip:10.0.0.1")
    call(ctx, "resetdsturi")
    assert call(ctx, "isdsturiset") == -1


def test_append_branch_copies_the_ruri_and_resets_what_belongs_to_it() -> None:
    ctx = request()
    ctx.dst_uri, ctx.q, ctx.branch_flags = "sip:10.0.0.1", 500, 3
    assert call(ctx, "append_branch") == 1
    branch = ctx.branches[0]
    assert (branch.uri, branch.dst_uri, branch.q, branch.flags) == (ctx.msg.ruri, "sip:10.0.0.1", 500, 3)
    assert expand(ctx, "$du $ru_q") == "<null> -1"
    assert call(ctx, "isbflagset", 3) == -1


def test_append_branch_of_a_uri_inherits_the_destination() -> None:
    ctx = request()
    ctx.dst_uri = "sip:10.0.0.1"
    assert call(ctx, "append_branch", "sip:x@y.example", "0.3") == 1
    assert (ctx.branches[0].dst_uri, ctx.branches[0].q, ctx.dst_uri) == ("sip:10.0.0.1", 300, "sip:10.0.0.1")
    assert call(ctx, "append_branch", "sip:x@y.example", "2") == -1


def test_twelve_destinations_at_most() -> None:
    ctx = request()
    assert [call(ctx, "append_branch", f"sip:u{i}@h") for i in range(12)] == [1] * 11 + [-1]


def test_remove_branch() -> None:
    ctx = request()
    call(ctx, "append_branch", "sip:a@h")
    call(ctx, "append_branch", "sip:b@h")
    assert call(ctx, "remove_branch", 0) == 1
    assert expand(ctx, "$(branch(uri)[*])") == "sip:b@h"
    assert call(ctx, "remove_branch", 1) == -1


def serial(ctx: Context) -> list[tuple[int, str, int]]:
    steps = []
    while (rc := call(ctx, "next_branches")) > 0:
        steps.append((rc, ctx.ruri, len(ctx.branches)))
    return steps


def test_branches_are_tried_by_falling_q_equal_ones_together() -> None:
    ctx = request()
    ctx.q = 300
    call(ctx, "append_branch", "sip:best@h", "0.9")
    call(ctx, "append_branch", "sip:too@h", "0.9")
    assert call(ctx, "serialize_branches", 1) == 1
    assert ctx.branches == []
    assert serial(ctx) == [(1, "sip:best@h", 1), (2, ctx.msg.ruri, 0)]
    assert "serial_branch" not in ctx.avps


def test_branches_may_be_tried_in_their_order() -> None:
    ctx = request()
    call(ctx, "append_branch", "sip:second@h", "0.9")
    call(ctx, "serialize_branches", 1, 1)
    assert serial(ctx) == [(1, ctx.msg.ruri, 0), (2, "sip:second@h", 0)]


def test_equal_q_is_nothing_to_put_in_order() -> None:
    ctx = request()
    call(ctx, "append_branch", "sip:a@h")
    assert call(ctx, "serialize_branches", 1) == 1
    assert (call(ctx, "next_branches"), len(ctx.branches)) == (-1, 1)


def test_what_was_put_aside_survives_a_suspension() -> None:
    ctx = request()
    call(ctx, "append_branch", "sip:a@h", "0.5")
    call(ctx, "serialize_branches", 1)
    later = Context.thaw(ctx.freeze(), {SOCKET.name: SOCKET})
    assert [uri for _, uri, _ in serial(later)] == ["sip:a@h", ctx.msg.ruri]


def test_flags() -> None:
    ctx = request()
    mask = FlagNames("message").mask("A")
    assert call(ctx, "isflagset", mask) == -1
    call(ctx, "setflag", mask)
    assert call(ctx, "isflagset", mask) == 1
    call(ctx, "resetflag", mask)
    assert call(ctx, "isflagset", mask) == -1


def test_branch_flags_belong_to_the_ruri_or_to_one_branch() -> None:
    ctx = request()
    call(ctx, "append_branch", "sip:a@h")
    assert call(ctx, "setbflag", 2, 1) == 1
    assert (call(ctx, "isbflagset", 2), call(ctx, "isbflagset", 2, 1)) == (-1, 1)
    assert call(ctx, "setbflag", 2, 2) == -1
    call(ctx, "resetbflag", 2, 1)
    assert call(ctx, "isbflagset", 2, 1) == -1


def test_flag_names_have_one_bit_each_and_there_are_32() -> None:
    names = FlagNames("message")
    masks = [names.mask(f"F{i}") for i in range(32)]
    assert sorted(masks) == [1 << i for i in range(32)]
    assert names.mask("F3") == 8
    with pytest.raises(ValueError, match="more than 32 message flags"):
        names.mask("F32")


def test_values() -> None:
    ctx = request()
    call(ctx, "pv_printf", variable("$avp(x)"), "text")
    assert value(ctx, "$avp(x)") == "text"
    call(ctx, "construct_uri", "sip", "u", "d.example", "5070", "transport=tcp", variable("$avp(u)"))
    assert value(ctx, "$avp(u)") == "sip:u@d.example:5070;transport=tcp"
    call(ctx, "construct_uri", "sips", "", "d.example", "", "", variable("$avp(u)"))
    assert value(ctx, "$avp(u)") == "sips:d.example"
    assert call(ctx, "construct_uri", "", "u", "d.example", "", "", variable("$avp(none)")) == 1
    assert value(ctx, "$avp(none)") is None


def test_is_myself_knows_sockets_and_their_advertised_names(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = request()
    known = [SOCKET, ListenSocket(1, "udp", "::1", 5070), ListenSocket(2, "udp", "10.0.0.1", 5060, "sip.example.com", 5080)]
    monkeypatch.setattr(this, "sockets", known)
    answers = {
        ("192.0.2.10", None): 1,
        ("192.0.2.10", 5070): 1,
        ("192.0.2.10", 5071): -1,
        ("[::1]", 5070): 1,
        ("SIP.example.com", 5080): 1,
        ("other.example", None): -1,
    }
    assert {key: call(ctx, "is_myself", *key) for key in answers} == answers
    # what has been found out holds for these sockets only
    monkeypatch.setattr(this, "sockets", [ListenSocket(0, "udp", "192.0.2.11", 5071)])
    assert {key: call(ctx, "is_myself", *key) for key in answers} == dict.fromkeys(answers, -1)
    assert call(ctx, "is_myself", "192.0.2.11", 5071) == 1


def test_is_myself_knows_aliases_also_those_of_another_script(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = request()
    for aliases, expected in ([("udp", "a.example", 5060), (None, "b.example", None)], [1, -1, 1]), ([], [-1, -1, -1]):
        monkeypatch.setattr(this, "program", SimpleNamespace(aliases=aliases), raising=False)
        asked = [("A.example", 5060), ("a.example", 5061), ("b.example", 5061)]
        assert [call(ctx, "is_myself", *key) for key in asked] == expected


def test_what_is_remembered_of_hosts_has_limits() -> None:
    ctx = request()
    for n in range(own_address.REMEMBERED + 10):
        call(ctx, "is_myself", f"host{n}.example", 5060)
    call(ctx, "is_myself", "x" * 60_000, 5060)
    known = own_address._answers.known
    assert 0 < len(known) <= own_address.REMEMBERED
    assert max(len(host) for host, _ in known) <= own_address.LONGEST


def test_force_send_socket_takes_only_sockets_of_the_server() -> None:
    ctx = request()
    assert call(ctx, "force_send_socket", "udp:192.0.2.10:5070") == 1
    assert ctx.send_socket is SOCKET
    assert call(ctx, "force_send_socket", "udp:192.0.2.11:5070") == -1


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A peer, and a server with one real socket on the same host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        own.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
        monkeypatch.setattr(this, "handles", [own], raising=False)
        yield other


def test_send_sends_the_message_as_it_came_with_more_headers(peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = request()
    ctx.socket = ListenSocket(0, "udp", "127.0.0.1", this.handles[0].getsockname()[1])
    monkeypatch.setattr(this, "sockets", [ctx.socket])
    host, port = peer.getsockname()
    assert call(ctx, "send", f"udp:{host}:{port}") == 1
    assert peer.recv(65535) == ctx.msg.raw
    assert call(ctx, "send", f"{host}:{port}", "X-More: yes") == 1
    assert peer.recv(65535) == ctx.msg.raw.replace(b"\r\n\r\n", b"\r\nX-More: yes\r\n\r\n", 1)
    assert call(ctx, "send", "no destination") == -1


def test_a_variable_that_names_no_branch_is_null() -> None:
    ctx = request()
    assert refused(ctx, "$(branch(uri)[3])", "sip:x@y")
    assert value(ctx, "$(branch(uri)[3])") is None
