"""Module uac: From and To under another name, restored in replies and in both directions of the dialog."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from opensips_py.modules import rr, uac
from opensips_py.script.context import Branch, Context, ListenSocket, Source
from opensips_py.script.declarations import ConfigError
from opensips_py.sip.message import SipMessage, parse
from opensips_py.tm import address_headers, relay
from tests.tm.conftest import world  # noqa: F401
from tests.tm.world import UAC, UAS1, World, find, reply_to, request


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    rr.routed.clear()


def configure(world: World, monkeypatch: pytest.MonkeyPatch, mode: str = "auto", password: str = "") -> None:  # noqa: F811
    monkeypatch.setattr(uac.restore_mode, "value", mode)
    monkeypatch.setattr(uac.restore_passwd, "value", password)
    uac.configure()


def context(raw: bytes | None = None) -> Context:
    socket = ListenSocket(0, "udp", "127.0.0.1", 15060)
    return Context(parse(raw or request("INVITE")), Source(*UAC), socket)


def proxy(ctx: Context) -> int:
    """A script that hides the caller and renames the callee, and stays in the path."""
    if ctx.msg.to is not None and ctx.msg.to.tag is not None:
        rr.loose_route(ctx)
    else:
        rr.record_route(ctx)
        assert uac.uac_replace_from(ctx, '"Anonymous"', "sip:anonymous@anonymous.invalid") == 1
        assert uac.uac_replace_to(ctx, None, "sip:x@y") == 1
    return relay.relay(ctx)


def route_of(msg: SipMessage) -> str:
    return "Route: " + msg.values("record-route")[0] + "\r\n"


@pytest.mark.parametrize("password", ["", "secret"])
def test_each_side_sees_one_name_for_the_whole_dialog(
    world: World, monkeypatch: pytest.MonkeyPatch, password: str  # noqa: F811
) -> None:  # fmt: skip
    configure(world, monkeypatch, password=password)
    world.script(proxy)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert invite.value("from") == '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=ft1'
    assert invite.value("to") == "<sip:x@y>"
    for code in (180, 200):
        out = world.receive(reply_to(invite, code), UAS1)
        assert out[0][1].value("from") == "<sip:alice@example.org>;tag=ft1"
        assert out[0][1].value("to") == "<sip:bob@example.com>;tag=uas"
    route = route_of(invite)
    ack = find(world.receive(request("ACK", branch="b2", to_tag="uas", extra=route), UAC), "ACK.*")
    assert ack.value("from") == "<sip:anonymous@anonymous.invalid>;tag=ft1"
    assert ack.value("to") == "<sip:x@y>;tag=uas"
    bye = request("BYE", "sip:alice@127.0.1.1:15061", branch="b3", extra=route).decode()
    bye = bye.replace("From: <sip:alice@example.org>;tag=ft1", "From: <sip:x@y>;tag=uas").replace(
        "To: <sip:bob@example.com>", 'To: "Anonymous" <sip:anonymous@anonymous.invalid>;tag=ft1'
    )
    upstream = find(world.receive(bye.encode(), UAS1), "BYE.*")
    assert upstream.value("from") == "<sip:bob@example.com>;tag=uas"
    assert upstream.value("to") == '"Anonymous" <sip:alice@example.org>;tag=ft1'
    answer = find(world.receive(reply_to(upstream, 200), UAC), "200.*")
    assert answer.value("from") == "<sip:x@y>;tag=uas"
    assert answer.value("to") == '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=ft1'


def test_a_negative_reply_is_acknowledged_under_the_new_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch)
    world.script(proxy)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    out = world.receive(reply_to(invite, 486), UAS1)
    assert find(out, "ACK.*").value("from") == invite.value("from")
    assert find(out, "ACK.*").value("to") == "<sip:x@y>;tag=uas"
    assert find(out, "486.*").value("to") == "<sip:bob@example.com>;tag=uas"


def test_each_branch_may_have_its_own_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch)

    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return relay.relay(ctx)

    def branch(ctx: Context) -> int:
        if ctx.branch_index == 1:
            uac.uac_replace_from(ctx, None, "sip:other@example.net")
        return 1

    world.script(script, branch_b=branch)
    out = world.receive(request("INVITE"), UAC)
    assert find(out, "INVITE>UAS1").value("from") == "<sip:alice@example.org>;tag=ft1"
    second = find(out, "INVITE>UAS2")
    assert second.value("from") == "<sip:other@example.net>;tag=ft1"
    ringing = find(world.receive(reply_to(second, 180), UAS1), "180.*")
    assert ringing.value("from") == "<sip:alice@example.org>;tag=ft1"


def test_with_mode_none_nothing_is_kept_and_nothing_restored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch, "none")
    world.script(proxy)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert "vsf" not in invite.values("record-route")[0]
    assert find(world.receive(reply_to(invite, 180), UAS1), "180.*").value("to") == "<sip:x@y>;tag=uas"


def test_with_mode_manual_the_script_restores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch, "manual")
    world.script(proxy)
    route = route_of(find(world.receive(request("INVITE"), UAC), "INVITE.*"))
    codes = []

    def script(ctx: Context) -> int:
        rr.loose_route(ctx)
        codes.extend([uac.uac_restore_from(ctx), uac.uac_restore_to(ctx)])
        return relay.relay(ctx)

    world.script(script)
    info = find(world.receive(request("INFO", branch="b2", to_tag="uas", extra=route), UAC), "INFO.*")
    assert info.value("from") == "<sip:anonymous@anonymous.invalid>;tag=ft1"
    assert codes == [1, 1]
    world.receive(request("INFO", branch="b3", to_tag="uas"), UAC)
    assert codes == [1, 1, -1, -1]
    # as OpenSIPS: in this mode what the script restores stays in the replies
    assert find(world.receive(reply_to(info, 200), UAS1), "200.*").value("from") == info.value("from")


def test_a_request_of_a_dialog_keeps_its_uris(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch)
    codes = []

    def script(ctx: Context) -> int:
        codes.extend([uac.uac_replace_from(ctx, None, "sip:a@b"), uac.uac_replace_from(ctx, "New", "")])
        return relay.relay(ctx)

    world.script(script)
    sent = find(world.receive(request("BYE", to_tag="uas"), UAC), "BYE.*")
    assert codes == [-1, 1]
    assert sent.value("from") == "New <sip:alice@example.org>;tag=ft1"


@pytest.mark.parametrize(
    ("value", "display", "uri", "expected"),
    [
        ("sip:a@b;tag=1", None, "sip:c@d", "<sip:c@d>;tag=1"),
        ("sip:a@b;tag=1", "X", "sip:c@d", "X<sip:c@d>;tag=1"),
        ("<sip:a@b>;tag=1", "New Name", "sip:c@d", '"New Name" <sip:c@d>;tag=1'),
        ("<sip:a@b>;tag=1", 'a"b;c', "", '"a\\"b;c" <sip:a@b>;tag=1'),
        ("<sip:a@b>;tag=1", '"A" <sip:x@y>', "sip:c@d", '"\\"A\\" <sip:x@y>" <sip:c@d>;tag=1'),
        ("<sip:a@b>;tag=1", '"Q"', "sip:c@d", '"Q" <sip:c@d>;tag=1'),
        ("sip:a@b;tag=1", None, "sip:c@d;user=phone", "<sip:c@d;user=phone>;tag=1"),
        ('"A <x>" <sip:a@b;p=1>;tag=1', "", "sip:c@d", "<sip:c@d>;tag=1"),
        ('"A <x>" <sip:a@b;p=1>;tag=1', None, None, '"A <x>" <sip:a@b;p=1>;tag=1'),
        ("A B < sip:a@b > ;tag=1", '"C"', None, '"C" <sip:a@b> ;tag=1'),
    ],
)
def test_however_the_header_is_written(value: str, display: str | None, uri: str | None, expected: str) -> None:
    msg = parse(request("OPTIONS").replace(b"From: <sip:alice@example.org>;tag=ft1", f"From: {value}".encode()))
    assert address_headers.replace(msg, "from", display, uri)
    assert parse(msg.serialise()).value("from") == expected


ALICE, ANON = "sip:alice@example.org", "sip:anon@x"


def test_either_uri_gives_the_other_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    configure(world, monkeypatch)
    ctx = context()
    token = uac.store(ctx, "from", ALICE, ANON)
    assert uac.other_uri(ctx, "from", token, ANON, upstream=True) == ALICE
    assert uac.other_uri(ctx, "from", token, ALICE, upstream=False) == ANON
    # written in another way
    assert uac.other_uri(ctx, "from", token, "sip:anon@X:5060", upstream=True) == ALICE
    assert uac.other_uri(ctx, "from", token, "sip:alice@example.org;user=phone", upstream=False) == ANON


@pytest.mark.parametrize("password", ["", "secret"])
def test_what_was_not_made_here_for_this_dialog_is_not_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, password: str  # noqa: F811
) -> None:  # fmt: skip
    configure(world, monkeypatch, password=password)
    ctx = context()
    token = uac.store(ctx, "from", ALICE, ANON)
    changed = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    for kind, text in (("to", token), ("from", changed), ("from", token[:-4]), ("from", ""), ("from", "AAAA"), ("from", "%%%")):
        assert uac.other_uri(ctx, kind, text, ANON, upstream=True) is None
    other_dialog = context().msg.raw.replace(b"call1@test", b"call2@test")
    assert uac.other_uri(context(other_dialog), "from", token, ANON, upstream=True) is None
    configure(world, monkeypatch, password="another")
    assert uac.other_uri(ctx, "from", token, ANON, upstream=True) is None


@pytest.mark.parametrize("wanted", ["sip:x@y>\r\nX-Evil: 1\r\nX: <sip:z", "sip:a@b\r\n\r\nINVITE sip:c@d SIP/2.0\r\n", "no uri"])
def test_the_sender_of_a_request_does_not_choose_what_is_written_into_it(
    world: World, monkeypatch: pytest.MonkeyPatch, wanted: str  # noqa: F811
) -> None:  # fmt: skip
    """The exclusive or of From and what is wanted, in Route, as the module's own form once was."""
    configure(world, monkeypatch)
    world.script(proxy)
    known = "sip:alice@example.org".ljust(len(wanted), "\0")
    mixed = bytes(ord(a) ^ ord(b) for a, b in zip(known, wanted.ljust(len(known), "\0"), strict=True))
    token = base64.b64encode(mixed).decode().replace("=", "-")
    for name in ("vsf", "vst"):
        route = f"Route: <sip:127.0.0.1:15060;lr;ftag=ft1;{name}={token}>\r\n"
        sent = find(world.receive(request("INFO", branch=name, to_tag="uas", extra=route), UAC), "INFO.*")
        assert sent.value("from") == "<sip:alice@example.org>;tag=ft1"
        assert sent.value("to") == "<sip:bob@example.com>;tag=uas"


@pytest.mark.parametrize("text", ["a\r\nX: 1", "a\nb", "a\0b", "a\rb"])
def test_a_name_with_a_line_end_is_refused(text: str) -> None:
    ctx = context()
    assert uac.uac_replace_from(ctx, text, "sip:a@b") == -1
    assert uac.uac_replace_to(ctx, None, f"sip:{text}@b") == -1
    assert not ctx.msg.edits


def test_a_mode_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uac.restore_mode, "value", "sometimes")
    with pytest.raises(ConfigError, match="restore_mode"):
        uac.configure()
