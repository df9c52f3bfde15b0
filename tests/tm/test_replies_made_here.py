"""t_newtran, t_reply, t_check_trans, stateless replies: what the server answers itself."""

from __future__ import annotations

import pytest

from opensips_py.modules import signaling, sl
from opensips_py.modules.tm import functions as tm
from opensips_py.script.context import Branch, Context
from opensips_py.tm import stateless
from opensips_py.tm.server_transaction import new_transaction, reply
from tests.tm.world import UAC, World, request, summary


def ringing_then(code: int) -> object:
    def main(ctx: Context) -> int:
        if ctx.msg.method == "ACK":
            return tm.t_relay(ctx)
        if not tm.t_newtran(ctx):
            return 0
        return tm.t_reply(ctx, code, "Answer")

    return main


def test_a_request_is_answered_once(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        if not new_transaction(ctx):
            return 0
        codes.append(reply(ctx, 200, "OK"))
        codes.append(reply(ctx, 404, "again"))
        return 1

    world.script(main)
    out = world.receive(request("OPTIONS"), UAC)
    assert summary(out) == ["200>UAC"]
    assert codes == [1, -1]
    assert world.receive(request("OPTIONS"), UAC)[0][1].raw == out[0][1].raw
    assert len(codes) == 2
    assert world.pass_time(4.9) == []
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["200>UAC"]
    assert world.pass_time(6) == []
    assert world.entries() == 0


def test_t_reply_makes_the_transaction(world: World) -> None:
    world.script(lambda ctx: reply(ctx, 200, "Direct"))
    assert summary(world.receive(request("INVITE"), UAC)) == ["100>UAC", "200>UAC"]


def test_to_tags_are_those_of_the_transaction(world: World) -> None:
    def main(ctx: Context) -> int:
        new_transaction(ctx)
        reply(ctx, 183, "Progress")
        return reply(ctx, 200, "OK")

    world.script(main)
    out = world.receive(request("INVITE"), UAC)
    assert summary(out) == ["100>UAC", "183>UAC", "200>UAC"]
    trying, progress, ok = (msg for _, msg in out)
    assert trying.to is not None and trying.to.tag is None
    assert progress.to is not None and ok.to is not None
    assert progress.to.tag == ok.to.tag is not None


@pytest.mark.parametrize("code", [200, 486])
def test_a_final_reply_to_an_invite_is_repeated_until_the_ack(world: World, code: int) -> None:
    world.script(ringing_then(code))  # type: ignore[arg-type]
    out = world.receive(request("INVITE"), UAC)
    tag = out[1][1].to.tag  # type: ignore[union-attr]
    assert [at for at, _, _ in world.pass_time(1.6)] == [0.5, 1.5]
    branch = "b1" if code >= 300 else "another"
    assert world.receive(request("ACK", branch=branch, to_tag=tag or ""), UAC) == []
    assert world.pass_time(30) == []
    assert world.entries() == 0


def test_without_an_ack_repetition_ends(world: World) -> None:
    world.script(ringing_then(486))  # type: ignore[arg-type]
    world.receive(request("INVITE"), UAC)
    assert [at for at, _, _ in world.pass_time(200)] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5]
    assert world.entries() == 0


def test_a_transaction_without_answer_absorbs_and_goes(world: World) -> None:
    runs = []

    def main(ctx: Context) -> int:
        runs.append(new_transaction(ctx))
        return 1

    world.script(main)
    assert world.receive(request("OPTIONS"), UAC) == []
    assert world.receive(request("OPTIONS"), UAC) == []
    assert runs == [1, 0]
    assert world.pass_time(6) == []
    assert world.entries() == 0


def test_cancel_of_a_call_that_rings_here_is_answered_only(world: World) -> None:
    def main(ctx: Context) -> int:
        if ctx.msg.method == "CANCEL":
            return tm.t_relay(ctx)
        new_transaction(ctx)
        return reply(ctx, 180, "Ringing")

    world.script(main)
    ringing = world.receive(request("INVITE"), UAC)[1][1]
    out = world.receive(request("CANCEL"), UAC)
    assert summary(out) == ["200>UAC"]
    assert out[0][1].to is not None and ringing.to is not None
    assert out[0][1].to.tag == ringing.to.tag


def test_check_trans_knows_what_is_known(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        code = tm.t_check_trans(ctx)
        codes.append(code)
        if ctx.msg.method in ("OPTIONS", "INVITE") and code:
            return reply(ctx, 200, "OK")
        return code

    world.script(main)
    world.receive(request("OPTIONS"), UAC)
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["200>UAC"]
    world.receive(request("CANCEL", branch="nope"), UAC)
    world.receive(request("ACK", branch="nope", cseq=7, to_tag="x"), UAC)
    assert codes == [-1, 0, -1, -1]
    world.receive(request("INVITE", branch="i", cseq=2), UAC)
    world.receive(request("CANCEL", branch="i", cseq=2), UAC)
    assert codes[4:] == [-1, 1]


def test_the_ack_of_a_stateless_reply_never_reaches_the_script(world: World) -> None:
    seen = []

    def main(ctx: Context) -> int:
        seen.append(ctx.msg.method)
        return sl.sl_send_reply(ctx, 404, "Not Here")

    world.script(main)
    out = world.receive(request("INVITE"), UAC)
    assert summary(out) == ["404>UAC"]
    again = world.receive(request("INVITE"), UAC)
    assert again[0][1].raw == out[0][1].raw
    tag = out[0][1].to.tag  # type: ignore[union-attr]
    assert world.receive(request("ACK", to_tag=tag or ""), UAC) == []
    assert seen == ["INVITE", "INVITE"]
    assert world.receive(request("ACK", to_tag="foreign"), UAC) == []
    assert seen[2:] == ["ACK"]
    assert world.entries() == 0


def test_a_redirection_names_the_destination_set(world: World) -> None:
    def main(ctx: Context) -> int:
        ctx.new_uri = "sip:new@127.0.9.9"
        ctx.branches.append(Branch("sip:other@127.0.9.8", q=500))
        return sl.sl_send_reply(ctx, 302, "Moved")

    world.script(main)
    out = world.receive(request("INVITE"), UAC)
    assert out[0][1].value("contact") == "<sip:new@127.0.9.9>, <sip:other@127.0.9.8>;q=0.5"


def test_send_reply_uses_the_transaction_when_there_is_one(world: World) -> None:
    def main(ctx: Context) -> int:
        if ctx.msg.method == "MESSAGE" and not new_transaction(ctx):
            return 0
        return signaling.send_reply(ctx, 200, "OK")

    world.script(main)
    world.receive(request("OPTIONS"), UAC)
    assert world.entries() == 0
    world.receive(request("MESSAGE", branch="m"), UAC)
    assert world.entries() > 0
    assert summary(world.receive(request("MESSAGE", branch="m"), UAC)) == ["200>UAC"]


def test_an_exception_in_the_script_is_answered_with_500(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    def main(ctx: Context) -> int:
        raise ZeroDivisionError("boom")

    world.script(main)
    out = world.receive(request("OPTIONS"), UAC)
    assert summary(out) == ["500>UAC"]
    assert "ZeroDivisionError: boom" in capfd.readouterr().err

    def answers_and_raises(ctx: Context) -> int:
        stateless.send(ctx, 200, "OK")
        raise ZeroDivisionError("boom")

    world.script(answers_and_raises)
    assert summary(world.receive(request("OPTIONS", branch="b2"), UAC)) == ["200>UAC"]


NOT_SIP = [b"", b"\r\n\r\n", b"\0\0\0\0", b"hello\r\n\r\n", b"\xff" * 3000, b"OPTIONS sip:x SIP/2.0\r\n\r\n"]


@pytest.mark.parametrize("data", NOT_SIP)
def test_what_is_not_sip_is_dropped(world: World, data: bytes) -> None:
    world.script(lambda ctx: sl.sl_send_reply(ctx, 200, "OK"))
    assert world.receive(data, UAC) == []


def test_bad_sip_that_can_be_answered_gets_400(world: World) -> None:
    world.script(lambda ctx: sl.sl_send_reply(ctx, 200, "OK"))
    bad = request("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: -1")
    assert summary(world.receive(bad, UAC)) == ["400>UAC"]


def test_a_request_that_lacks_headers_makes_no_transaction(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        codes.append(new_transaction(ctx))
        return sl.sl_send_reply(ctx, 400, "Bad")

    world.script(main)
    bad = request("OPTIONS").replace(b"Call-ID: call1@test\r\n", b"")
    assert summary(world.receive(bad, UAC)) == ["400>UAC"]
    assert codes[0] < 0
    assert world.entries() == 0


def test_a_bad_uri_makes_no_transaction(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        ctx.new_uri = "foo:bar@x"
        codes.append(tm.t_relay(ctx, 2))
        codes.append(tm.t_reply(ctx, 555, "script"))
        return 1

    world.script(main)
    assert world.receive(request("OPTIONS"), UAC) == []
    assert codes == [-2, -1]
