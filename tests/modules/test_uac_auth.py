"""Modules uac and uac_auth: a challenge from the next hop is answered here, and the caller sees nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opensips_py.modules import rr, uac, uac_auth
from opensips_py.script.context import Branch, Context
from opensips_py.script.declarations import ConfigError
from opensips_py.sip.digest import digest_response, ha1, parse_credentials
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay
from tests.tm.conftest import world  # noqa: F401
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(uac_auth.credential, "value", ["alice:trunk.example:secret", "bob:other:0x" + ha1("bob", "other", "pw")])
    uac_auth.configure()
    yield
    rr.routed.clear()
    monkeypatch.undo()
    uac_auth.configure()


def trunk(ctx: Context) -> int:
    """A script that answers challenges of the next hop, twice at most."""
    if ctx.msg.method == "ACK":
        return relay.relay(ctx)
    ctx.armed_failure = "auth"
    return relay.relay(ctx)


def answered(ctx: Context) -> int:
    if ctx.reply_code in (401, 407) and uac.uac_auth(ctx) == 1:
        ctx.armed_failure = "auth"
        return relay.relay(ctx)
    return 1


def challenge(msg: SipMessage, code: int, header: str) -> bytes:
    return reply_to(msg, code).replace(b"Content-Length", header.encode() + b"\r\nContent-Length")


def is_right(value: str, password: str, user: str = "alice", realm: str = "trunk.example") -> bool:
    given = parse_credentials(value)
    assert given.user == user
    algorithm = (given.algorithm or "MD5").upper().removesuffix("-SESS")
    return given.response == digest_response(given, ha1(user, realm, password, algorithm), "INVITE")


@pytest.mark.parametrize(
    "algorithm", ["", ", algorithm=MD5", ", algorithm=SHA-256", ", algorithm=SHA-512-256", ", algorithm=MD5-sess"]
)
@pytest.mark.parametrize("qop", ["", ', qop="auth"', ', qop="auth-int,auth"'])
@pytest.mark.parametrize(
    "code, asks, header", [(401, "WWW-Authenticate", "authorization"), (407, "Proxy-Authenticate", "proxy-authorization")]
)
def test_a_challenge_is_answered(world: World, code: int, asks: str, header: str, qop: str, algorithm: str) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    out = world.receive(
        challenge(invite, code, f'{asks}: Digest realm="trunk.example", nonce="n1", opaque="o"{qop}{algorithm}'), UAS1
    )
    assert sorted(summary(out)) == ["ACK>UAS1", "INVITE>UAS1"]
    again = find(out, "INVITE.*")
    assert is_right(again.value(header) or "", "secret")
    assert 'opaque="o"' in (again.value(header) or "")
    assert again.value("cseq") == "2 INVITE"
    assert again.via.branch != invite.via.branch


def test_the_caller_sees_its_own_cseq_and_the_callee_the_raised_one(world: World) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    again = find(
        world.receive(challenge(invite, 401, 'WWW-Authenticate: Digest realm="trunk.example", nonce="n1"'), UAS1), "INVITE.*"
    )
    for code in (180, 200):
        reply = find(world.receive(reply_to(again, code), UAS1), f"{code}.*")
        assert reply.value("cseq") == "1 INVITE"
    ack = find(world.receive(request("ACK", branch="b2", to_tag="uas"), UAC), "ACK.*")
    assert ack.value("cseq") == "2 ACK"


def test_a_stale_nonce_is_answered_again_with_one_authorization(world: World) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    sent = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    for nonce in ("n1", "n2"):
        out = world.receive(
            challenge(sent, 401, f'WWW-Authenticate: Digest realm="trunk.example", nonce="{nonce}", stale=true'), UAS1
        )
        sent = find(out, "INVITE.*")
        assert len(sent.all("authorization")) == 1
        assert parse_credentials(sent.value("authorization") or "").nonce == nonce
        assert sent.value("cseq") == "2 INVITE"  # as OpenSIPS: the callee is one number ahead, however often it asks


CHALLENGE = 'WWW-Authenticate: Digest realm="trunk.example", nonce="n1"'


def in_dialog(method: str, cseq: int, route: str, branch: str) -> bytes:
    return request(method, branch=branch, cseq=cseq, to_tag="uas", extra=route)


def upstream(method: str, cseq: int, route: str, branch: str) -> bytes:
    """A request of the callee in the same dialog."""
    text = request(method, "sip:alice@127.0.1.1:15061", branch=branch, cseq=cseq, extra=route).decode()
    text = text.replace("From: <sip:alice@example.org>;tag=ft1", "From: <sip:bob@example.com>;tag=uas")
    return text.replace("To: <sip:bob@example.com>", "To: <sip:alice@example.org>;tag=ft1").encode()


@pytest.fixture
def call(world: World) -> str:  # noqa: F811
    """A call whose INVITE was challenged; the Route of its further requests."""
    uac.configure()

    def main(ctx: Context) -> int:
        if ctx.msg.to is not None and ctx.msg.to.tag is not None:
            rr.loose_route(ctx)
        else:
            rr.record_route(ctx)
        return trunk(ctx)

    world.script(main, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert "aci" not in (invite.value("record-route") or "")
    again = find(world.receive(challenge(invite, 401, CHALLENGE), UAS1), "INVITE.*")
    world.receive(reply_to(again, 200), UAS1)
    return f"Route: {again.value('record-route')}\r\n"


@pytest.mark.parametrize("method", ["INFO", "INVITE", "BYE", "PRACK", "UPDATE", "REFER", "MESSAGE"])
def test_the_whole_dialog_goes_on_one_number_higher(world: World, call: str, method: str) -> None:  # noqa: F811
    assert find(world.receive(in_dialog("ACK", 1, call, "a1"), UAC), "ACK.*").value("cseq") == "2 ACK"
    sent = find(world.receive(in_dialog(method, 2, call, "b2"), UAC), f"{method}>.*")
    assert sent.value("cseq") == f"3 {method}"
    assert find(world.receive(reply_to(sent, 200), UAS1), "200.*").value("cseq") == f"2 {method}"
    if method == "INVITE":
        assert find(world.receive(in_dialog("ACK", 2, call, "a2"), UAC), "ACK.*").value("cseq") == "3 ACK"


def test_the_ack_that_outlives_the_transaction_has_the_number_too(world: World, call: str) -> None:  # noqa: F811
    world.pass_time(300)
    assert world.records() == []
    assert find(world.receive(in_dialog("ACK", 1, call, "a1"), UAC), "ACK.*").value("cseq") == "2 ACK"


def test_the_other_direction_counts_by_itself(world: World, call: str) -> None:  # noqa: F811
    sent = find(world.receive(upstream("BYE", 7, call, "u1"), UAS1), "BYE.*")
    assert sent.value("cseq") == "7 BYE"
    assert find(world.receive(reply_to(sent, 200), UAC), "200.*").value("cseq") == "7 BYE"


def test_what_follows_a_request_that_was_challenged_within_the_dialog_is_higher_still(world: World, call: str) -> None:  # noqa: F811
    sent = find(world.receive(in_dialog("INVITE", 2, call, "b2"), UAC), "INVITE.*")
    assert sent.value("cseq") == "3 INVITE"
    again = find(world.receive(challenge(sent, 401, CHALLENGE), UAS1), "INVITE.*")
    assert again.value("cseq") == "4 INVITE"
    assert find(world.receive(reply_to(again, 200), UAS1), "200.*").value("cseq") == "2 INVITE"
    assert find(world.receive(in_dialog("ACK", 2, call, "a2"), UAC), "ACK.*").value("cseq") == "4 ACK"
    bye = find(world.receive(in_dialog("BYE", 3, call, "b3"), UAC), "BYE.*")
    assert bye.value("cseq") == "5 BYE"
    assert find(world.receive(upstream("INFO", 7, call, "u1"), UAS1), "INFO.*").value("cseq") == "7 INFO"


def test_an_invite_that_goes_elsewhere_after_the_challenge_has_the_callers_number(world: World) -> None:  # noqa: F811
    def next_carrier(ctx: Context) -> int:
        if ctx.reply_code == 401:
            return answered(ctx)
        ctx.new_uri = "sip:bob@127.0.1.3:15063"
        return relay.relay(ctx)

    world.script(trunk, failure_auth=next_carrier)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    again = find(world.receive(challenge(invite, 401, CHALLENGE), UAS1), "INVITE.*")
    other = find(world.receive(reply_to(again, 500), UAS1), "INVITE>UAS2")
    assert other.value("cseq") == "1 INVITE"
    assert not other.has("authorization")
    assert find(world.receive(reply_to(other, 200), UAS2), "200.*").value("cseq") == "1 INVITE"
    assert find(world.receive(request("ACK", branch="b2", to_tag="uas"), UAC), "ACK.*").value("cseq") == "1 ACK"


def test_the_branch_that_was_challenged_is_tried_again(world: World) -> None:  # noqa: F811
    def fork(ctx: Context) -> int:
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return trunk(ctx)

    world.script(fork, failure_auth=answered)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(first, 486), UAS1)
    again = find(world.receive(challenge(second, 401, CHALLENGE), UAS2), "INVITE.*")
    assert again.ruri == "sip:carl@127.0.1.3:15063"
    assert parse_credentials(again.value("authorization") or "").uri == "sip:carl@127.0.1.3:15063"
    assert is_right(again.value("authorization") or "", "secret")


@pytest.mark.parametrize("space", ["\t", "  ", "\r\n ", " \r\n\t"])
def test_any_white_space_may_follow_the_scheme(world: World, space: str) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    asked = f'WWW-Authenticate: Digest{space}realm="trunk.example", nonce="n1"'
    again = find(world.receive(challenge(invite, 401, asked), UAS1), "INVITE.*")
    assert is_right(again.value("authorization") or "", "secret")


def test_the_first_challenge_that_can_be_answered_counts(world: World) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    headers = (
        'WWW-Authenticate: Digest realm="trunk.example", nonce="x", algorithm=FUTURE-1\r\n'
        'WWW-Authenticate: Digest realm="nobody", nonce="x"\r\n'
        'WWW-Authenticate: Digest realm="other", nonce="x"'
    )
    again = find(world.receive(challenge(invite, 401, headers), UAS1), "INVITE.*")
    assert is_right(again.value("authorization") or "", "pw", "bob", "other")


def test_without_a_credential_the_caller_gets_the_challenge(world: World) -> None:  # noqa: F811
    world.script(trunk, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    out = world.receive(challenge(invite, 401, 'WWW-Authenticate: Digest realm="nobody", nonce="n1"'), UAS1)
    assert find(out, "401.*").value("www-authenticate") == 'Digest realm="nobody", nonce="n1"'


def test_credentials_from_avps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for parameter, name in (
        (uac_auth.auth_realm_avp, "realm"), (uac_auth.auth_username_avp, "user"), (uac_auth.auth_password_avp, "pass")
    ):  # fmt: skip
        monkeypatch.setattr(parameter, "value", f"$avp({name})")
    uac_auth.configure()

    def main(ctx: Context) -> int:
        ctx.avps.update({"realm": ["r"], "user": ["carl"], "pass": ["pw"]})
        return trunk(ctx)

    world.script(main, failure_auth=answered)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    again = find(world.receive(challenge(invite, 401, 'WWW-Authenticate: Digest realm="r", nonce="n1"'), UAS1), "INVITE.*")
    assert is_right(again.value("authorization") or "", "pw", "carl", "r")


@pytest.mark.parametrize("text", ["alice", "alice:realm", ":realm:x"])
def test_a_credential_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(uac_auth.credential, "value", [text])
    with pytest.raises(ConfigError, match="user:realm:password"):
        uac_auth.configure()


def test_avps_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uac_auth.auth_realm_avp, "value", "$avp(realm)")
    with pytest.raises(ConfigError, match="belong together"):
        uac_auth.configure()
