"""Requests to names: a running server, a DNS server with faults, and user agents on further loopback addresses."""

from __future__ import annotations

import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from opensips_py.server.process import this
from scripts.testbed.dns_server import DnsServer
from scripts.testbed.server import Server
from tests.conftest import StartDns, StartServer
from tests.support.sip_client import SipClient

SCRIPT = """
dns_servers="DNS"
dns_retr_time=2
dns_retr_no=1
dns_use_search_list=no
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
modparam("tm", "fr_timeout", 5)
route {
    if ($rU == "alive") {
        sl_send_reply(200, "OK");
        exit;
    }
    if ($rU == "resolve") {
        sl_send_reply(200, "is $(rd{ip.resolve})");
        exit;
    }
    if ($rU == "forward") {
        if (!forward())
            sl_send_reply(500, "forward $rc");
        exit;
    }
    if ($rU == "newtran") {
        t_newtran();
        if (!t_relay())
            t_reply(500, "t_relay $rc");
        exit;
    }
    if ($rU == "onlyone") {
        t_relay(4);
        exit;
    }
    if ($rU == "replicate") {
        t_replicate("sip:copy@$hdr(X-Second)");
        t_reply(200, "OK");
        exit;
    }
    if ($rU == "branch") {
        t_on_branch("named");
    }
    if ($rU == "failure") {
        t_on_failure("named");
        $du = "sip:" + $hdr(X-First);
    }
    if ($rU == "fork") {
        $branch = "sip:b@" + $hdr(X-Second);
    }
    if (!t_relay())
        xlog("@@after t_relay $rc\\n");
    else
        xlog("@@relayed by $pp\\n");
}
branch_route[named] {
    $ru = "sip:changed@" + $hdr(X-Branch);
}
failure_route[named] {
    $ru = "sip:second@" + $hdr(X-Second);
    t_relay();
}
"""


@pytest.fixture
def agents() -> Iterator[Callable[..., SipClient]]:
    """User agents: ``agents("127.0.0.2", port)``."""
    made: list[SipClient] = []

    def make(ip: str = "127.0.0.1", port: int = 0, server: tuple[str, int] | None = None) -> SipClient:
        made.append(SipClient(server, ip=ip, port=port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def start(server: StartServer, dns: DnsServer, workers: int = 1, more: str = "") -> Server:
    return server(more + SCRIPT.replace("DNS", dns.address), workers=workers)


def test_an_invite_to_a_name_goes_where_naptr_srv_and_address_lead(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    callee = agents("127.0.0.2")
    zone = dns(
        f"""
        example.test.           60 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.test.
        example.test.           60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.test.
        _sip._udp.example.test. 60 IN SRV 10 0 {callee.port} gw.example.test.
        gw.example.test.        60 IN A 127.0.0.2
        """
    )
    running = start(server, zone)
    caller = agents(server=running.address)
    for _ in range(3):
        caller.request("INVITE", "sip:bob@example.test")
        assert caller.receive().status == 100
        request = callee.receive()
        assert request.start == "INVITE sip:bob@example.test SIP/2.0"
        callee.reply(request, 200)
        assert caller.final().status == 200
    assert zone.asked == Counter({"example.test NAPTR": 1, "_sip._udp.example.test SRV": 1, "gw.example.test A": 1})
    assert running.statistics("dns:dns_total_queries") == {"dns:dns_total_queries": 3}


def test_a_slow_name_server_holds_up_nobody_else(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    callee = agents("127.0.0.2")
    zone = dns("slow.test. 60 IN A 127.0.0.2\nother.test. 60 IN A 127.0.0.2")
    zone.fail("slow.test", delay=1.5)
    running = start(server, zone, workers=1)
    caller, other = agents(server=running.address), agents(server=running.address)
    sent = caller.request("INVITE", f"sip:bob@slow.test:{callee.port}")
    began = this.clock.now()
    assert caller.receive().status == 100
    answered = 0
    while this.clock.now() - began < 1.2:
        other.request("OPTIONS", "sip:alive@{server}")
        assert other.final().status == 200
        answered += 1
    assert answered > 20, "the only worker waits for the DNS"
    other.request("MESSAGE", f"sip:bob@other.test:{callee.port}")
    message = callee.receive()
    assert message.method == "MESSAGE"
    callee.reply(message, 200)
    assert other.final().status == 200
    caller.send_raw(sent)  # a retransmission is absorbed meanwhile
    request = callee.receive()
    assert request.method == "INVITE"
    assert this.clock.now() - began >= 1.5
    callee.reply(request, 200)
    assert caller.final().status == 200
    callee.nothing()
    assert zone.asked["slow.test A"] == 1
    running.wait_log("@@relayed by")


def test_a_name_without_address_is_answered_476_by_t_relay(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    running = start(server, dns(), workers=1)
    caller = agents(server=running.address)
    for _ in range(2):  # the second time from the cache
        caller.request("MESSAGE", "sip:bob@nowhere.test")
        answer = caller.final()
        assert (answer.status, answer.reason) == (476, "Unresolvable destination (476/TM)")
    assert not running.lines("@@")


def test_t_relay_gives_minus_4_for_a_name_without_address_when_the_script_made_the_transaction(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    running = start(server, dns())
    caller = agents(server=running.address)
    caller.request("MESSAGE", "sip:newtran@nowhere.test")
    assert (answer := caller.final()).status == 500 and answer.reason == "t_relay -4"


def test_a_name_server_that_never_answers_is_given_up(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    zone = dns("silent.test. 60 IN A 127.0.0.2")
    zone.fail("silent.test", silent=True)
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("MESSAGE", "sip:bob@silent.test:5060")
    assert caller.final(20).status == 476


def test_a_cancel_while_the_name_is_looked_up_ends_the_call(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    callee = agents("127.0.0.2")
    zone = dns("slow.test. 60 IN A 127.0.0.2")
    zone.fail("slow.test", delay=1)
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("INVITE", f"sip:bob@slow.test:{callee.port}")
    assert caller.receive().status == 100
    caller.in_transaction("CANCEL")
    statuses = {(reply.method, reply.status) for reply in (caller.final(), caller.final())}
    assert statuses == {("CANCEL", 200), ("INVITE", 487)}
    callee.nothing(0.5)


def test_cancel_parked_answers_487_without_waiting_for_the_dns(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    callee = agents("127.0.0.2")
    zone = dns("slow.test. 60 IN A 127.0.0.2")
    zone.fail("slow.test", delay=3)
    script = SCRIPT.replace("DNS", zone.address).replace("dns_retr_time=2", "dns_retr_time=8")
    running = server(script + 'modparam("tm", "cancel_parked", 1)\n', workers=1)
    caller = agents(server=running.address)
    began = this.clock.now()
    caller.request("INVITE", f"sip:bob@slow.test:{callee.port}")
    assert caller.receive().status == 100
    caller.in_transaction("CANCEL")
    statuses = {(reply.method, reply.status) for reply in (caller.final(), caller.final())}
    assert this.clock.now() - began < 2.8
    assert statuses == {("CANCEL", 200), ("INVITE", 487)}
    caller.in_transaction("ACK")
    callee.nothing(3.2)
    assert running.mi("async_list")["Count"] == 0


def test_the_next_server_is_tried_after_503(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    first = agents("127.0.0.2")
    second = agents("127.0.0.3", first.port)
    zone = dns("two.test. 60 IN A 127.0.0.2\ntwo.test. 60 IN A 127.0.0.3")
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("INVITE", f"sip:bob@two.test:{first.port}")
    request = first.receive()
    first.reply(request, 503, "Full")
    assert first.receive().method == "ACK"
    again = second.receive()
    assert again.start == request.start
    ours, theirs = again.all("Via"), request.all("Via")
    assert list(ours)[1:] == list(theirs)[1:]
    assert again.header("Via") != request.header("Via"), "RFC 3263 4.3: a new branch parameter"
    second.reply(again, 200)
    assert caller.final().status == 200


def test_the_next_server_is_tried_when_one_says_nothing(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    first = agents("127.0.0.2")
    second = agents("127.0.0.3", first.port)
    running = start(server, dns("two.test. 60 IN A 127.0.0.2\ntwo.test. 60 IN A 127.0.0.3"))
    caller = agents(server=running.address)
    caller.request("INVITE", f"sip:bob@two.test:{first.port}")
    assert first.receive().method == "INVITE"
    request = second.receive(15)
    second.reply(request, 180, "Ringing")
    second.reply(request, 200)
    assert caller.final(15).status == 200


def test_the_next_server_is_tried_when_one_cannot_be_sent_to(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    callee = agents("127.0.0.3")
    # nothing can be sent to port 0, nor to a class E address from a loopback socket
    running = start(server, dns("two.test. 60 IN A 255.255.255.255\ntwo.test. 60 IN A 127.0.0.3"))
    caller = agents(server=running.address)
    began = this.clock.now()
    caller.request("MESSAGE", f"sip:bob@two.test:{callee.port}")
    callee.reply(callee.receive(), 200)
    assert caller.final().status == 200
    assert this.clock.now() - began < 4.5, "it waited for a timer"


def test_no_other_server_is_tried_after_another_reply(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    first = agents("127.0.0.2")
    second = agents("127.0.0.3", first.port)
    running = start(server, dns("two.test. 60 IN A 127.0.0.2\ntwo.test. 60 IN A 127.0.0.3"))
    caller = agents(server=running.address)
    caller.request("MESSAGE", f"sip:bob@two.test:{first.port}")
    first.reply(first.receive(), 500, "Broken")
    assert caller.final().status == 500
    second.nothing()


@pytest.mark.parametrize(
    ("user", "more"), [("onlyone", ""), ("bob", "disable_dns_failover=yes\n")], ids=["flag 0x04", "parameter"]
)
def test_failover_can_be_switched_off(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient], user: str, more: str
) -> None:
    first = agents("127.0.0.2")
    second = agents("127.0.0.3", first.port)
    running = start(server, dns("two.test. 60 IN A 127.0.0.2\ntwo.test. 60 IN A 127.0.0.3"), more=more)
    caller = agents(server=running.address)
    caller.request("MESSAGE", f"sip:{user}@two.test:{first.port}")
    first.reply(first.receive(), 503, "Full")
    assert caller.final().status == 500  # what 503 becomes upstream
    second.nothing()


def test_names_of_several_branches_are_looked_up_at_the_same_time(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    first, second = agents("127.0.0.2"), agents("127.0.0.3")
    zone = dns("one.test. 60 IN A 127.0.0.2\nother.test. 60 IN A 127.0.0.3")
    zone.fail("one.test", delay=1.8)
    zone.fail("other.test", delay=1.8)
    running = start(server, zone)
    caller = agents(server=running.address)
    began = this.clock.now()
    caller.request("INVITE", f"sip:fork@one.test:{first.port}", headers=f"X-Second: other.test:{second.port}")
    to_first, to_second = first.receive(), second.receive()
    assert this.clock.now() - began < 3.4
    assert to_second.start == f"INVITE sip:b@other.test:{second.port} SIP/2.0"
    second.reply(to_second, 486, "Busy")
    first.reply(to_first, 200)
    assert caller.final().status == 200


def test_a_branch_route_may_name_the_destination(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    callee = agents("127.0.0.2")
    zone = dns("named.test. 60 IN A 127.0.0.2")
    zone.fail("named.test", delay=0.3)
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("MESSAGE", "sip:branch@192.0.2.1", headers=f"X-Branch: named.test:{callee.port}")
    request = callee.receive()
    assert request.start == f"MESSAGE sip:changed@named.test:{callee.port} SIP/2.0"
    callee.reply(request, 200)
    assert caller.final().status == 200


def test_a_copy_may_go_to_a_name(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    copy = agents("127.0.0.2")
    zone = dns("copy.test. 60 IN A 127.0.0.2")
    zone.fail("copy.test", delay=0.3)
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("MESSAGE", "sip:replicate@192.0.2.1", headers=f"X-Second: copy.test:{copy.port}")
    request = copy.receive()
    assert request.method == "MESSAGE"
    copy.reply(request, 404, "Not relayed")
    assert caller.final().status == 200


def test_a_failure_route_may_go_to_a_name(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    first, second = agents("127.0.0.2"), agents("127.0.0.3")
    zone = dns("second.test. 60 IN A 127.0.0.3")
    zone.fail("second.test", delay=0.3)
    running = start(server, zone)
    caller = agents(server=running.address)
    headers = f"X-First: 127.0.0.2:{first.port}\nX-Second: second.test:{second.port}"
    caller.request("INVITE", "sip:failure@192.0.2.1", headers=headers)
    first.reply(first.receive(), 486, "Busy")
    assert first.receive().method == "ACK"
    request = second.receive()
    assert request.start == f"INVITE sip:second@second.test:{second.port} SIP/2.0"
    second.reply(request, 200)
    assert caller.final().status == 200


def test_a_failure_route_of_the_timer_process_may_go_to_a_name(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    first, second = agents("127.0.0.2"), agents("127.0.0.3")
    zone = dns("second.test. 60 IN A 127.0.0.3")
    zone.fail("second.test", delay=0.5)
    running = start(server, zone)
    caller = agents(server=running.address)
    headers = f"X-First: 127.0.0.2:{first.port}\nX-Second: second.test:{second.port}"
    caller.request("INVITE", "sip:failure@192.0.2.1", headers=headers)
    first.receive()  # and says nothing
    request = second.receive(15)
    assert request.start == f"INVITE sip:second@second.test:{second.port} SIP/2.0"
    second.reply(request, 200)
    assert caller.final(15).status == 200


def test_forward_waits_for_a_name_and_retransmissions_go_the_same_way(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient]
) -> None:
    callees = [agents("127.0.0.2"), agents("127.0.0.3")]
    zone = dns(
        "".join(f"_sip._udp.many.test. 60 IN SRV 0 1 {one.port} h{n}.test.\n" for n, one in enumerate(callees))
        + "h0.test. 60 IN A 127.0.0.2\nh1.test. 60 IN A 127.0.0.3"
    )
    zone.fail("_sip._udp.many.test", delay=0.3)
    running = start(server, zone)
    caller = agents(server=running.address)
    for _ in range(6):
        sent = caller.request("MESSAGE", "sip:forward@many.test")
        for _ in range(4):
            caller.send_raw(sent)
        came = [0, 0]
        while sum(came) < 5:
            ready, _, _ = select.select([callee.socket for callee in callees], [], [], 10)
            assert ready, f"{came} messages have come"
            for n, callee in enumerate(callees):
                if callee.socket in ready:
                    callee.receive()
                    came[n] += 1
        assert sorted(came) == [0, 5]


def test_weights_share_the_requests(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    heavy, light, backup = agents("127.0.0.2"), agents("127.0.0.3"), agents("127.0.0.4")
    zone = dns(
        f"""
        _sip._udp.shared.test. 60 IN SRV 10 80 {heavy.port} heavy.test.
        _sip._udp.shared.test. 60 IN SRV 10 20 {light.port} light.test.
        _sip._udp.shared.test. 60 IN SRV 20 100 {backup.port} backup.test.
        heavy.test.  60 IN A 127.0.0.2
        light.test.  60 IN A 127.0.0.3
        backup.test. 60 IN A 127.0.0.4
        """
    )
    running = start(server, zone)
    caller = agents(server=running.address)
    chosen: dict[str, int] = {}
    sockets = {one.socket: one for one in (caller, heavy, light, backup)}
    for _ in range(300):
        caller.request("MESSAGE", "sip:bob@shared.test")
        answered = False
        while not answered:
            ready = select.select(list(sockets), [], [], 10)[0]
            assert ready
            for one in (sockets[handle] for handle in ready):
                message = one.receive()
                if one is caller:
                    answered = message.header("Call-ID") == caller.sent["call_id"]
                else:  # perhaps for the second time: the machine is slow
                    one.reply(message, 200)
                    assert chosen.setdefault(message.header("Call-ID"), one.port) == one.port
    counts = Counter(chosen.values())
    assert counts.total() == 300
    assert counts[backup.port] == 0
    assert 195 <= counts[heavy.port] <= 285, counts  # 240 expected, standard deviation 7


def test_the_name_is_resolved_for_a_transformation(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    zone = dns("known.test. 60 IN A 127.0.0.9")
    zone.fail("known.test", delay=0.3)
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("OPTIONS", "sip:resolve@known.test")
    other = agents(server=running.address)
    other.request("OPTIONS", "sip:alive@{server}")
    other.final()
    assert caller.final().reason == "is 127.0.0.9"
    assert zone.asked["known.test A"]
    caller.request("OPTIONS", "sip:resolve@nowhere.test")
    assert caller.final().reason == "is <null>"


@pytest.mark.parametrize("user", ["bob", "branch", "newtran"])
def test_another_worker_relays_when_one_is_killed_while_it_waits_for_the_dns(
    server: StartServer, dns: StartDns, agents: Callable[..., SipClient], user: str
) -> None:
    callee = agents("127.0.0.2")
    zone = dns("slow.test. 60 IN A 127.0.0.2")
    zone.fail("slow.test", delay=1.5)
    running = start(server, zone, workers=2)
    caller = agents(server=running.address)
    calls = 6
    for _ in range(calls):
        caller.request("INVITE", f"sip:{user}@slow.test:{callee.port}", headers=f"X-Branch: slow.test:{callee.port}")
    for _ in range(calls):
        assert caller.receive().status == 100
    while (waiting := running.mi("async_list"))["Count"] < calls:  # a call of which only the 100 is stored would get a 500
        time.sleep(0.01)
    os.kill(waiting["Operations"][0]["PID"], signal.SIGKILL)
    seen: set[str] = set()
    while len(seen) < calls:
        request = callee.receive(10)
        if request.method == "INVITE" and request.header("Call-ID") not in seen:
            seen.add(request.header("Call-ID"))
            callee.reply(request, 200)
            assert caller.final(10).status == 200
    assert running.statistics("async:taken_over")["async:taken_over"] >= 1


def test_a_slow_look_up_is_counted_and_logged(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    zone = dns("slow.test. 60 IN A 127.0.0.2\nfast.test. 60 IN A 127.0.0.2")
    zone.fail("slow.test", delay=0.6)
    running = start(server, zone, more="exec_dns_threshold=400000\n")
    caller = agents(server=running.address)
    for name in ("fast.test", "slow.test"):
        caller.request("OPTIONS", f"sip:resolve@{name}")
        assert caller.final().status == 200
    assert running.statistics("dns:") == {
        "dns:dns_total_queries": 2,
        "dns:dns_slow_queries": 1,
        "dns:dns_refused_queries": 0,
    }
    [line] = running.wait_log("threshold exceeded : dns")
    assert "slow.test A" in line


def test_a_caller_without_names_never_asks(server: StartServer, dns: StartDns, agents: Callable[..., SipClient]) -> None:
    callee, zone = agents("127.0.0.2"), dns()
    running = start(server, zone)
    caller = agents(server=running.address)
    caller.request("MESSAGE", f"sip:bob@127.0.0.2:{callee.port}")
    callee.reply(callee.receive(), 200)
    assert caller.final().status == 200
    assert not zone.asked
