"""Variables of another message than the current one, ``$(<request>…) $(<reply>…) $(<branch>…)``, and what error_route sees."""

from __future__ import annotations

from opensips_py.core import functions_uri
from opensips_py.modules.tm import functions as tm
from opensips_py.script.context import Branch, Context, RouteKind
from opensips_py.tm import relay
from tests.support.script_context import expand
from tests.tm.world import UAC, UAS1, World, find, reply_to, request, summary

SEEN = "$(<request>rm) $(<request>ru) $(<request>si):$(<request>sp) $(<request>hdr(X-A))"


def test_an_onreply_route_reads_the_request_and_the_branch(world: World) -> None:
    seen = []

    def script(ctx: Context) -> int:
        ctx.armed_reply = "r"
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        functions_uri.setuser(ctx, "robert")
        return relay.relay(ctx)

    def reply(ctx: Context) -> int:
        seen.append(expand(ctx, f"$rs {SEEN} $(<reply>rs) $(<branch>ru) $(<branch>du) $(<branch>mf)"))
        return 1

    world.script(script, onreply_r=reply)
    out = world.receive(request("INVITE", extra="X-A: one\r\n"), UAC)
    world.receive(reply_to(find(out, "INVITE>UAS2"), 180), UAS1)
    assert seen == ["180 INVITE sip:robert@127.0.1.2:15062 127.0.1.1:15061 one 180 sip:carl@127.0.1.3:15063 sip:127.0.1.3:15063 "]


def test_a_failure_route_reads_the_reply_and_the_branch(world: World) -> None:
    seen = []

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        ctx.avps["x"] = ["kept"]
        return relay.relay(ctx)

    def failure(ctx: Context) -> int:
        seen.append(expand(ctx, "$rm $(<reply>rs) $(<reply>rr) $(<request>ru) $(<branch>ru) $(<request>avp(x))"))
        return 1

    world.script(script, failure_f=failure)
    out = world.receive(request("INVITE"), UAC)
    world.receive(reply_to(find(out, "INVITE.*"), 486, "Busy"), UAS1)
    assert seen == ["INVITE 486 Busy sip:bob@127.0.1.2:15062 sip:bob@127.0.1.2:15062 kept"]
    seen.clear()
    world.receive(request("INVITE", branch="b9", cseq=7), UAC)
    world.pass_time(200)
    assert seen == ["INVITE <null> <null> sip:bob@127.0.1.2:15062 sip:bob@127.0.1.2:15062 kept"]


def test_a_branch_route_reads_its_own_request(world: World) -> None:
    seen = []

    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        return relay.relay(ctx)

    def branch(ctx: Context) -> int:
        seen.append(expand(ctx, "$(<branch>ru) $(<request>rm) $(<reply>rs)"))
        return 1

    world.script(script, branch_b=branch)
    world.receive(request("INVITE"), UAC)
    assert seen == ["sip:bob@127.0.1.2:15062 INVITE <null>"]


def test_a_stray_reply_has_no_request(world: World) -> None:
    seen = []

    def reply(ctx: Context) -> int:
        seen.append(expand(ctx, f"{SEEN} $(<branch>ru)"))
        return 1

    world.script(lambda ctx: relay.relay(ctx), onreply_=reply)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 404), UAS1)
    world.pass_time(60)
    world.receive(reply_to(invite, 404), UAS1)
    assert seen[0].startswith("INVITE sip:bob@127.0.1.2:15062 127.0.1.1:15061")
    assert seen[1] == "<null> <null> <null>:<null> <null> <null>"


ERROR = "$err.class $err.level $err.info|$err.rcode $err.rreason|$rT"


def test_error_route_learns_what_the_script_has_raised(world: World) -> None:
    seen = []

    def script(ctx: Context) -> int:
        raise ValueError("no such thing")

    def error(ctx: Context) -> int:
        seen.append(expand(ctx, ERROR))
        return 1

    world.script(script, error_=error)
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["500>UAC"]
    assert seen == ["4 1 ValueError: no such thing|500 Server Internal Error|error_route"]


def test_error_route_learns_why_a_message_cannot_be_read(world: World) -> None:
    seen = []

    def error(ctx: Context) -> int:
        seen.append(expand(ctx, ERROR))
        ctx.dropped = drop
        return 1

    world.script(relay.relay, error_=error)
    bad = request("OPTIONS", extra="Content-Length: nought\r\n")
    drop = False
    (out,) = world.receive(bad, UAC)
    assert out[1].status == 400
    assert out[1].reason.startswith("Bad Request (bad Content-Length")
    assert seen[0].startswith("1 3 bad Content-Length")
    assert "|400 Bad Request (bad Content-Length" in seen[0]
    drop = True
    assert world.receive(bad, UAC) == []


def test_error_route_may_answer_itself(world: World) -> None:
    from opensips_py.tm import stateless

    def error(ctx: Context) -> int:
        assert ctx.route_kind is RouteKind.ERROR
        return stateless.send(ctx, 488, "Mine")

    def script(ctx: Context) -> int:
        raise ValueError

    world.script(script, error_=error)
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["488>UAC"]
    assert summary(world.receive(request("OPTIONS", extra="Content-Length: nought\r\n"), UAC)) == ["488>UAC"]


def test_flags_of_the_request_go_on_in_its_onreply_routes(world: World) -> None:
    seen = []

    def script(ctx: Context) -> int:
        ctx.flags, ctx.branch_flags = 1, 2
        tm.t_on_reply(ctx, "r")
        return relay.relay(ctx)

    def reply(ctx: Context) -> int:
        seen.append((ctx.flags, ctx.branch_flags))
        ctx.flags, ctx.branch_flags = ctx.flags | 4, ctx.branch_flags | 8
        return 1

    world.script(script, onreply_r=reply)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 180), UAS1)
    world.receive(reply_to(invite, 200), UAS1)
    assert seen == [(1, 2), (5, 10)]
