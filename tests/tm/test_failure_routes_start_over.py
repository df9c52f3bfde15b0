"""A failure route starts from the request as it was received: what the script has changed since is for the branches that failed.

Headers that were added before the relay, message flags and AVPs stay.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.modules.tm import functions as tm
from opensips_py.script.context import Q_UNSPECIFIED, Branch, Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.tm import relay, server_transaction
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request

RECEIVED = "sip:1000@127.0.0.1:15060"


def aim(ctx: Context) -> None:
    """What lookup() does: a contact, its way and its flags."""
    ctx.new_uri = "sip:a8f2k@127.0.1.2:15062"
    ctx.dst_uri = "sip:127.0.1.2:15062;lr"
    ctx.path = "<sip:127.0.1.2:15062;lr>"
    ctx.q = 500
    ctx.send_socket = this.sockets[0]
    ctx.branch_flags = 5
    ctx.branches.append(Branch("sip:b@127.0.1.2:15062", q=100))


def at_once(ctx: Context) -> None:
    pass


def after_t_newtran(ctx: Context) -> None:
    tm.t_newtran(ctx)


def after_a_suspension(ctx: Context) -> None:
    """As the resume route of async() sees the request."""
    server_transaction.new_transaction(ctx)
    thawed = Context.thaw(ctx.freeze(), this.sockets_by_name)
    for name in ("new_uri", "dst_uri", "path", "q", "send_socket", "branch_flags", "branches", "avps", "flags"):
        assert getattr(thawed, name) == getattr(ctx, name)
        setattr(ctx, name, getattr(thawed, name))
    ctx.msg.edits = thawed.msg.edits


@pytest.mark.parametrize("before", [at_once, after_t_newtran, after_a_suspension])
@pytest.mark.parametrize("aimed_first", [True, False])
def test_the_request_is_aimed_as_it_was_received(world: World, before: Callable[[Context], None], aimed_first: bool) -> None:
    seen = []

    def main(ctx: Context) -> int:
        if aimed_first:
            aim(ctx)
        before(ctx)
        if not aimed_first:
            aim(ctx)
        ctx.armed_failure = "voicemail"
        ctx.msg.append_header("X-Main: 1\r\n")
        ctx.avps["name"] = ["value"]
        ctx.flags = 3
        return relay.relay(ctx)

    def voicemail(ctx: Context) -> int:
        seen.append((ctx.new_uri, ctx.ruri, ctx.dst_uri, ctx.path, ctx.q, ctx.send_socket, ctx.branch_flags, ctx.branches))
        assert (ctx.avps, ctx.flags) == ({"name": ["value"]}, 3)
        ctx.dst_uri = "sip:127.0.1.3:15063"
        return relay.relay(ctx)

    world.script(main, failure_voicemail=voicemail)
    out = world.receive(request("INVITE", RECEIVED), UAC)
    invites = [msg for _, msg in out if msg.is_request]
    assert [msg.ruri for msg in invites] == ["sip:a8f2k@127.0.1.2:15062", "sip:b@127.0.1.2:15062"]
    for msg in invites:
        out = world.receive(reply_to(msg, 486), UAS1)
    again = find(out, "INVITE>UAS2")
    assert again.ruri == RECEIVED
    assert not again.has("route")
    assert again.value("x-main") == "1"
    assert seen == [(None, RECEIVED, None, None, Q_UNSPECIFIED, None, 0, [])]


def test_a_second_failure_route_starts_where_the_first_did(world: World) -> None:
    """Flags and AVPs go from one to the next; destination and headers are for the branches of the first alone."""
    seen = []

    def main(ctx: Context) -> int:
        aim(ctx)
        ctx.branches = []
        ctx.armed_failure = "next"
        ctx.msg.append_header("X-Main: 1\r\n")
        return relay.relay(ctx)

    def following(ctx: Context) -> int:
        seen.append((ctx.ruri, ctx.dst_uri, ctx.branch_flags, ctx.flags, list(ctx.avps.get("tries", ()))))
        ctx.flags |= 1 << len(seen)
        ctx.avps.setdefault("tries", []).append(len(seen))
        ctx.msg.append_header(f"X-Try: {len(seen)}\r\n")
        ctx.branch_flags = 7
        ctx.dst_uri = "sip:127.0.1.3:15063"
        ctx.new_uri = f"sip:try{len(seen)}@127.0.1.3:15063"
        ctx.armed_failure = "next"
        return relay.relay(ctx) if len(seen) < 3 else -1

    world.script(main, failure_next=following)
    sent = find(world.receive(request("INVITE", RECEIVED), UAC), "INVITE.*")
    for n in (1, 2):
        sent = find(world.receive(reply_to(sent, 404), UAS1), "INVITE>UAS2")
        assert sent.ruri == f"sip:try{n}@127.0.1.3:15063"
        assert [header.value for header in sent.all("x-try")] == [str(n)]
        assert sent.value("x-main") == "1"
    world.receive(reply_to(sent, 404), UAS2)
    assert seen == [(RECEIVED, None, 0, 0, []), (RECEIVED, None, 0, 2, [1]), (RECEIVED, None, 0, 6, [1, 2])]


def test_a_socket_forced_for_the_first_attempt_is_not_for_the_next(world: World) -> None:
    other = ListenSocket(1, "udp", "127.0.0.1", 15070)
    this.sockets = [*this.sockets, other]
    this.handles.append(this.handles[0])

    def main(ctx: Context) -> int:
        ctx.send_socket = other
        ctx.armed_failure = "next"
        return relay.relay(ctx)

    def following(ctx: Context) -> int:
        ctx.new_uri = "sip:c@127.0.1.3:15063"
        return relay.relay(ctx)

    world.script(main, failure_next=following)
    sent = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert sent.via.port == 15070
    assert find(world.receive(reply_to(sent, 486), UAS1), "INVITE.*").via.port == 15060
