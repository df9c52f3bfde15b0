"""Requests that are made here: sent, repeated, timed out and answered like any other, with nobody upstream."""

from __future__ import annotations

from typing import Any

import pytest

from opensips_py.modules.tm import functions as tm
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay, transaction, uac, uac_reply
from opensips_py.tm.record import Notice
from opensips_py.tm.uac import LocalRequest, NotSent
from opensips_py.tm.uac_reply import Outcome
from tests.tm.world import UAS1, UAS2, World, find, reply_to, summary

TARGET = "sip:bob@127.0.1.2:15062"


def message(method: str = "MESSAGE", **given: Any) -> LocalRequest:
    return LocalRequest(method, TARGET, "<sip:here@x>;tag=f", "<sip:bob@x>", "made@here", **given)


def no_route(ctx: Context) -> int:
    return 1


def ask(
    world: World, request: LocalRequest, provisional: bool = False
) -> tuple[list[Outcome], list[tuple[tuple[str, int], SipMessage]]]:
    """Send a request; its replies as they come, and what went out."""
    outcomes: list[Outcome] = []
    world.sent.clear()
    uac.ask(request, outcomes.append, provisional=provisional)
    return outcomes, world.taken()


@pytest.mark.parametrize("code", [200, 302, 404, 603])
def test_the_final_reply_reaches_who_has_asked(world: World, code: int) -> None:
    world.script(no_route)
    outcomes, out = ask(world, message(headers="Content-Type: text/plain\r\n", body="hello"))
    sent = find(out, "MESSAGE>UAS1")
    assert (sent.body, sent.content_type, sent.max_forwards) == ("hello", "text/plain", 70)
    assert world.receive(reply_to(sent, code, "So It Is"), UAS1) == []
    assert [(o.code, o.status) for o in outcomes] == [(code, f"{code} So It Is")]
    assert outcomes[0].message is not None
    assert world.receive(reply_to(sent, code), UAS1) == []  # repeated: told once
    assert len(outcomes) == 1
    world.pass_time(10)
    assert world.entries() == 0


def test_it_is_repeated_and_then_answered_408(world: World) -> None:
    world.script(no_route)
    outcomes, _ = ask(world, message())
    out = world.pass_time(29)
    assert [at for at, _, _ in out][:4] == [0.5, 1.5, 3.5, 7.5]
    assert outcomes == []
    assert world.pass_time(2) == []
    assert [(o.status, o.reply) for o in outcomes] == [("408 Request Timeout", b"")]
    world.pass_time(10)
    assert world.entries() == 0


def test_provisional_replies_are_told_of_if_wanted(world: World) -> None:
    world.script(no_route)
    plain, out = ask(world, message("INVITE"))
    wanting, again = ask(world, message("INVITE"), provisional=True)
    for sent in (find(out, "INVITE.*"), find(again, "INVITE.*")):
        for code in (100, 180, 183, 200):
            world.receive(reply_to(sent, code), UAS1)
    assert [o.code for o in plain] == [200]
    assert [o.code for o in wanting] == [180, 183, 200]


def test_a_2xx_to_an_invite_is_acknowledged_along_its_route(world: World) -> None:
    world.script(no_route)
    outcomes, out = ask(world, message("INVITE"))
    route = "Record-Route: <sip:127.0.1.3:15063;lr>\r\nContact: <sip:phone@127.0.1.2:15062>\r\n"
    answer = reply_to(find(out, "INVITE.*"), 200).replace(b"Content-Length", route.encode() + b"Content-Length")
    ack = find(world.receive(answer, UAS1), "ACK>UAS2")
    assert ack.ruri == "sip:phone@127.0.1.2:15062"
    assert ack.values("route") == ["<sip:127.0.1.3:15063;lr>"]
    assert ack.value("to") == "<sip:bob@x>;tag=uas"
    again = find(world.receive(answer, UAS1), "ACK>UAS2")
    assert again.via.branch == ack.via.branch != find(out, "INVITE.*").via.branch
    assert [o.code for o in outcomes] == [200]


def test_a_negative_reply_to_an_invite_is_acknowledged(world: World) -> None:
    world.script(no_route)
    outcomes, out = ask(world, message("INVITE"))
    assert summary(world.receive(reply_to(find(out, "INVITE.*"), 486), UAS1)) == ["ACK>UAS1"]
    assert [o.code for o in outcomes] == [486]


@pytest.mark.parametrize("headers", ["no colon\r\n", 'Contact: "a\r\n'])
def test_one_with_headers_that_are_none_is_not_sent(world: World, headers: str) -> None:
    world.script(no_route)
    with pytest.raises(NotSent, match="cannot be sent"):
        uac.send(message(headers=headers))
    assert world.entries() == 0


def test_local_route_sees_and_changes_the_request(world: World) -> None:
    seen = []

    def local(ctx: Context) -> int:
        seen.append((ctx.msg.method, ctx.ruri, ctx.dst_uri, ctx.avps.get("uac_ctx"), ctx.msg.value("call-id")))
        ctx.msg.append_header("X-Local: yes\r\n")
        ctx.new_uri = "sip:else@127.0.1.2:15062"
        ctx.dst_uri = "sip:127.0.1.3:15063"
        return 1

    world.script(no_route, local_0=local)
    request = message()
    request.avps = {"uac_ctx": ["note"]}
    _, out = ask(world, request)
    assert seen == [("MESSAGE", TARGET, TARGET, ["note"], "made@here")]
    sent = find(out, "MESSAGE>UAS2")
    assert (sent.ruri, sent.value("x-local"), len(sent.vias)) == ("sip:else@127.0.1.2:15062", "yes", 1)


def test_drop_in_local_route_prevents_sending(world: World) -> None:
    def local(ctx: Context) -> int:
        ctx.dropped = True
        return 0

    world.script(no_route, local_0=local)
    world.sent.clear()
    with pytest.raises(NotSent, match="local_route"):
        uac.send(message())
    assert world.sent == []
    assert world.entries() == 0


def test_onreply_and_failure_routes_armed_in_local_route_run(world: World) -> None:
    """As for relayed requests; the failure route may try another target."""
    run: list[object] = []

    def local(ctx: Context) -> int:
        assert tm.t_on_reply(ctx, "r") == tm.t_on_failure(ctx, "f") == 1
        return 1

    def reply(ctx: Context) -> int:
        run.append(("reply", ctx.msg.status))
        return 1

    def failure(ctx: Context) -> int:
        run.append(("failure", ctx.reply_code))
        assert tm.t_reply(ctx, 200, "OK") == -1  # there is nobody to reply to
        ctx.new_uri, ctx.dst_uri = "sip:carl@127.0.1.3:15063", None
        return relay.relay(ctx)

    world.script(no_route, local_0=local, onreply_r=reply, failure_f=failure)
    outcomes, out = ask(world, message())
    second = find(world.receive(reply_to(find(out, "MESSAGE.*"), 480), UAS1), "MESSAGE>UAS2")
    assert (second.ruri, len(second.vias)) == ("sip:carl@127.0.1.3:15063", 1)
    assert outcomes == []
    world.receive(reply_to(second, 202), UAS2)
    assert [o.code for o in outcomes] == [202]
    assert run == [("reply", 480), ("failure", 480), ("reply", 202)]


def test_what_cannot_be_sent_leaves_nothing_behind(world: World) -> None:
    world.script(no_route)
    world.unreachable.add(UAS1)
    for request, error in (
        (message(), "477"),
        (message(next_hop="sip:127.0.0.1;transport=unknown"), "476"),
        (message(next_hop="tel:123"), "475"),
    ):
        with pytest.raises(NotSent) as raised:
            uac.send(request)
        assert str(raised.value.error) == error
    world.pass_time(60)
    assert world.entries() == 0


def test_an_ack_is_sent_without_a_transaction(world: World) -> None:
    world.script(no_route)
    world.sent.clear()
    uac.send(message("ACK"))
    assert summary(world.taken()) == ["ACK>UAS1"]
    assert world.entries() == 0


# --- who is told ----------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    monkeypatch.setitem(uac_reply.handlers, "test", lambda state, outcome: found.append((state, outcome.code)))
    return found


class Processes:
    """Stands for the control channel and the table of processes: slot 7 is there in incarnation 3."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, str, dict[str, bytes]]] = []
        self.incarnation = 3

    def status(self, slot: int) -> Processes:
        return self

    def send_to(self, slot: int, command: str, arguments: dict[str, bytes]) -> None:
        self.sent.append((slot, command, arguments))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(this, "control", made, raising=False)
    monkeypatch.setattr(this, "counters", made, raising=False)
    return made


def test_a_notice_for_any_process_is_run_where_the_reply_is(world: World, told: list[tuple[bytes, int]]) -> None:
    world.script(no_route)
    world.sent.clear()
    uac.send(message(), Notice("test", b"state"))
    world.receive(reply_to(find(world.taken(), "MESSAGE.*"), 200), UAS1)
    assert told == [(b"state", 200)]


def test_a_handler_may_send_the_next_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs when the transaction of the first one is not held any more."""
    world.script(no_route)

    def again(state: bytes, outcome: Outcome) -> None:
        uac.send(message("OPTIONS"))

    monkeypatch.setitem(uac_reply.handlers, "test", again)
    world.sent.clear()
    uac.send(message(), Notice("test"))
    assert summary(world.receive(reply_to(find(world.taken(), "MESSAGE.*"), 200), UAS1)) == ["OPTIONS>UAS1"]


def test_a_notice_for_another_process_is_run_there(world: World, told: list[tuple[bytes, int]], processes: Processes) -> None:
    world.script(no_route)
    world.sent.clear()
    uac.send(message(), Notice("test", b"", slot=7, incarnation=3))
    world.receive(reply_to(find(world.taken(), "MESSAGE.*"), 200), UAS1)
    assert told == []
    [(slot, command, arguments)] = processes.sent
    assert (slot, command) == (7, "local_reply")
    uac_reply.take(arguments["key"])  # what process 7 does then
    uac_reply.take(arguments["key"])  # and the sweep, if both come
    assert told == [(b"", 200)]


def test_the_row_of_a_process_that_has_died_is_removed(world: World, told: list[tuple[bytes, int]], processes: Processes) -> None:
    world.script(no_route)
    world.sent.clear()
    uac.send(message(), Notice("test", b"", slot=7, incarnation=2))
    world.receive(reply_to(find(world.taken(), "MESSAGE.*"), 200), UAS1)
    assert (told, processes.sent) == ([], [])
    assert list(world.store.scan(uac_reply.PREFIX)) == []


def _dies(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_reply_is_told_of_although_the_process_that_got_it_dies(
    world: World, told: list[tuple[bytes, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script(no_route)
    world.sent.clear()
    uac.send(message(), Notice("test", b"state"))
    answer = reply_to(find(world.taken(), "MESSAGE.*"), 200)
    with monkeypatch.context() as patch:
        patch.setattr(transaction, "tellers", {uac_reply.PREFIX: _dies})
        with pytest.raises(KeyboardInterrupt):
            world.receive(answer, UAS1)
    assert told == []
    uac_reply.sweep()
    assert told == [(b"state", 200)]
    uac_reply.sweep()
    assert len(told) == 1


def test_a_handler_that_raises_harms_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bad(state: bytes, outcome: Outcome) -> None:
        raise ValueError("oh dear")

    world.script(no_route)
    monkeypatch.setitem(uac_reply.handlers, "test", bad)
    world.sent.clear()
    uac.send(message(), Notice("test"))
    world.receive(reply_to(find(world.taken(), "MESSAGE.*"), 200), UAS1)
    assert "oh dear" in capfd.readouterr().err
    world.pass_time(10)
    assert world.entries() == 0
