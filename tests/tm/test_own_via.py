"""How the server names itself in forwarded requests: set_advertised_address(), set_advertised_port(), add_local_rport()."""

from __future__ import annotations

from opensips_py.core.functions_network import add_local_rport, set_advertised_address, set_advertised_port
from opensips_py.modules import rr
from opensips_py.script.context import Branch, Context
from opensips_py.tm import relay
from tests.tm.world import UAC, UAS1, World, find, reply_to, request


def test_via_and_record_route_carry_the_advertised_name(world: World) -> None:
    def script(ctx: Context) -> int:
        rr.record_route(ctx)
        assert set_advertised_address(ctx, "proxy.example.com") == 1
        assert set_advertised_port(ctx, "5080") == 1
        return relay.relay(ctx)

    world.script(script)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert invite.via.sent_by == "proxy.example.com:5080"
    assert [value.split(";")[0] for value in invite.values("record-route")] == ["<sip:proxy.example.com:5080"]
    assert "r2" not in invite.values("record-route")[0]
    assert world.receive(reply_to(invite, 180), UAS1)[0][1].status == 180


def test_address_and_port_are_independent(world: World) -> None:
    def script(ctx: Context) -> int:
        set_advertised_address(ctx, "[2001:db8::1]")
        assert set_advertised_port(ctx, "70000") == 1, "but nothing is changed"
        assert set_advertised_address(ctx, "") == 1
        return relay.forward(ctx)

    world.script(script)
    assert find(world.receive(request("OPTIONS"), UAC), "OPTIONS.*").via.sent_by == "[2001:db8::1]:15060"


def test_a_branch_route_names_the_server_for_its_branch_alone(world: World) -> None:
    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return relay.relay(ctx)

    def branch(ctx: Context) -> int:
        if ctx.branch_index == 0:
            set_advertised_address(ctx, "inside.example.com")
            add_local_rport(ctx)
        return 1

    world.script(script, branch_b=branch)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    assert first.via.sent_by == "inside.example.com:15060"
    assert first.via.value.endswith(";rport")
    assert second.via.sent_by == "127.0.0.1:15060"
    assert "rport" not in second.via.params


def test_the_next_hop_is_asked_for_rport(world: World) -> None:
    def script(ctx: Context) -> int:
        add_local_rport(ctx)
        return relay.relay(ctx)

    world.script(script)
    sent = find(world.receive(request("OPTIONS"), UAC), "OPTIONS.*")
    assert sent.via.value.endswith(";rport")
    assert "rport" not in sent.vias[1].params


def test_what_the_main_route_has_set_holds_for_every_branch(world: World) -> None:
    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        set_advertised_address(ctx, "all.example.com")
        return relay.relay(ctx)

    world.script(script, branch_b=lambda ctx: 1)
    out = world.receive(request("INVITE"), UAC)
    for name in ("INVITE>UAS1", "INVITE>UAS2"):
        assert find(out, name).via.sent_by == "all.example.com:15060"
