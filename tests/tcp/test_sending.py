"""Requests and replies over TCP: which connection they take, and what happens when there is none."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from opensips_py.server.process import this
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.conftest import StartServer
from tests.support.sip_client import Message, SipClient
from tests.support.sip_stream import SipStream, StreamListener
from tests.tcp.conftest import PREAMBLE, both_free

Start = Callable[..., Server]
Stream = Callable[..., SipStream]
Listener = Callable[..., StreamListener]
Client = Callable[..., SipClient]

RELAY = """
route {
    if (!loose_route()) {
        if (is_method("CANCEL")) { t_relay(); exit; }
        record_route();
        if ($hdr(X-To) != NULL) $du = $hdr(X-To);
    }
    t_relay();
}
"""


def invite(sip: SipClient, to: str, method: str = "INVITE", **given: str) -> None:
    sip.request(method, headers=f"X-To: {to}", **given)


def connections(running: Server) -> list[dict[str, object]]:
    found: list[dict[str, object]] = running.mi("list_tcp_conns")["Connections"]
    return found


def wait_connections(running: Server, count: int) -> list[dict[str, object]]:
    end = this.clock.now() + 20
    while len(found := connections(running)) != count:
        assert this.clock.now() < end, f"{len(found)} connections: {found}"
        time.sleep(0.02)
    return found


def ack(sip: SipClient, reply: Message, uri: str) -> None:
    routes = "".join(f"Route: {value}\n" for value in reversed(reply.all("Record-Route")))
    sip.send(
        f"ACK {uri} SIP/2.0\n"
        "Via: SIP/2.0/UDP {ip}:{port};branch={branch}ack\nMax-Forwards: 70\n"
        f"From: {reply.header('From')}\nTo: {reply.header('To')}\nCall-ID: {reply.header('Call-ID')}\nCSeq: 1 ACK\n{routes}\n"
    )


# --- calls ----------------------------------------------------------------------------------------------------------


def test_a_call_from_udp_to_tcp_uses_one_connection(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp")
    leg = callee.accept()
    received = leg.receive()
    assert received.all("Via")[0].startswith(f"SIP/2.0/TCP 127.0.0.1:{running.port};")
    tag = caller.sent["tag"]
    assert received.all("Record-Route") == [
        f"<sip:127.0.0.1:{running.port};transport=tcp;r2=on;lr;ftag={tag}>",
        f"<sip:127.0.0.1:{running.port};r2=on;lr;ftag={tag}>",
    ]
    leg.reply(received, 180, "Ringing")
    leg.reply(received, 200)
    final = caller.final()
    assert final.status == 200
    ack(caller, final, f"sip:callee@127.0.0.1:{callee.port};transport=tcp")
    assert leg.receive().method == "ACK"
    routes = "".join(f"Route: {value}\n" for value in final.all("Record-Route"))
    leg.send(
        f"BYE sip:caller@127.0.0.1:{caller.port} SIP/2.0\nVia: SIP/2.0/TCP 127.0.0.1:{leg.port};branch={{branch}}\n"
        f"Max-Forwards: 70\nFrom: {final.header('To')}\nTo: {final.header('From')}\nCall-ID: {final.header('Call-ID')}\n"
        f"CSeq: 2 BYE\n{routes}\n"
    )
    bye = caller.receive()
    assert bye.method == "BYE"
    assert bye.all("Via")[0].startswith(f"SIP/2.0/UDP 127.0.0.1:{running.port};")
    assert not bye.all("Route")
    caller.reply(bye, 200)
    assert leg.receive().status == 200
    assert len(connections(running)) == 1


def test_a_call_from_tcp_to_udp(tcp_server: Start, client: Client, stream: Stream) -> None:
    running = tcp_server(RELAY)
    callee, caller = client(), stream(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port}")
    received = callee.receive()
    assert received.all("Via")[0].startswith(f"SIP/2.0/UDP 127.0.0.1:{running.port};")
    assert "transport=tcp" in received.all("Record-Route")[1]
    # over UDP a reply may lack Content-Length, on a stream it may not
    reply = callee.reply(received, 200).replace(b"Content-Length: 0\r\n", b"")
    final = caller.final()
    assert final.status == 200
    callee.send_raw(reply, received.source)
    assert caller.final().header("Content-Length") == "0"
    ack(caller, final, f"sip:callee@127.0.0.1:{callee.port}")
    assert callee.receive().method == "ACK"


def test_a_request_without_content_length_gets_one_on_a_stream(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    data = caller.render(
        f"OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP {{ip}}:{{port}};branch={{branch}}\nFrom: <sip:a@b>;tag=1\n"
        f"To: <sip:a@b>\nCall-ID: {{call_id}}\nCSeq: 1 OPTIONS\nX-To: sip:127.0.0.1:{callee.port};transport=tcp\n\n"
    )
    caller.send_raw(data.replace(b"Content-Length: 0\r\n", b""))
    assert callee.accept().receive().header("Content-Length") == "0"


def test_requests_of_all_processes_to_one_address_share_a_connection(
    tcp_server: Start, client: Client, listener: Listener, stream: Stream
) -> None:
    running = tcp_server(RELAY, workers=4)
    callee = listener()
    callers = [client(running.address) if n % 2 else stream(running.address) for n in range(20)]
    for caller in callers:
        invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", "OPTIONS")
    leg = callee.accept()
    for _ in callers:
        leg.reply(leg.receive(), 200)
    assert [caller.final().status for caller in callers] == [200] * 20
    with pytest.raises(AssertionError):
        callee.accept(0.2)


def test_a_connection_over_ipv6(server: StartServer, client: Client, listener: Listener) -> None:
    port = both_free()
    running = server(PREAMBLE.replace("socket=tcp:127.0.0.1:", "socket=tcp:[::1]:") + RELAY, port=port)
    callee, caller = listener("::1"), client(running.address)
    invite(caller, f"sip:[::1]:{callee.port};transport=tcp", "OPTIONS")
    leg = callee.accept()
    received = leg.receive()
    assert received.all("Via")[0].startswith(f"SIP/2.0/TCP [::1]:{port};")
    leg.reply(received, 200)
    assert caller.final().status == 200
    assert connections(running)[0]["Remote"] == f"[::1]:{callee.port}"


# --- nothing is repeated over a connection (RFC 3261 17) --------------------------------------------------------------


def test_a_request_is_sent_once(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server('modparam("tm", "T1_timer", 50)\nmodparam("tm", "fr_timeout", 2)\n' + RELAY)
    callee, caller = listener(), client(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp")
    leg = callee.accept()
    assert leg.receive().method == "INVITE"
    leg.nothing(1)
    assert caller.final().status == 408


def test_a_negative_reply_is_sent_once_and_its_ack_absorbed(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('modparam("tm", "T1_timer", 50)\nroute { if (!is_method("ACK")) t_reply(486, "Busy Here"); }')
    caller = stream(running.address)
    caller.request("INVITE")
    assert caller.final().status == 486
    caller.nothing(0.5)
    caller.in_transaction("ACK")
    caller.nothing(0.2)


def test_a_transaction_over_connections_alone_is_forgotten_at_once(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('route { t_reply(200, "OK"); }')
    caller = stream(running.address)
    caller.request("OPTIONS")
    assert caller.final().status == 200
    end = this.clock.now() + 20
    while running.statistics("tm:inuse_transactions")["tm:inuse_transactions"]:
        assert this.clock.now() < end, "still there"


# --- what cannot be sent -----------------------------------------------------------------------------------------------


def test_a_refused_connection_is_477(tcp_server: Start, client: Client) -> None:
    running = tcp_server(RELAY)
    caller = client(running.address)
    invite(caller, f"sip:127.0.0.1:{free_port(socket.SOCK_STREAM)};transport=tcp")
    reply = caller.final()
    assert (reply.status, reply.reason) == (477, "Send failed (477/TM)")


def test_a_failure_route_goes_on_to_another_address(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(
        """
        route { t_on_failure("next"); $du = $hdr(X-To); t_relay(); }
        failure_route[next] { xlog("failed with $T_reply_code\\n"); $du = $hdr(X-Next); t_relay(); }
        """
    )
    callee, caller = listener(), client(running.address)
    dead = free_port(socket.SOCK_STREAM)
    caller.request(
        "INVITE", headers=f"X-To: sip:127.0.0.1:{dead};transport=tcp\nX-Next: sip:127.0.0.1:{callee.port};transport=tcp"
    )
    leg = callee.accept()
    leg.reply(leg.receive(), 200)
    assert caller.final().status == 200
    assert running.lines("failed with 477")


def test_a_peer_that_does_not_answer_is_given_up_after_the_connect_timeout(tcp_server: Start, client: Client) -> None:
    running = tcp_server("tcp_connect_timeout=300\n" + RELAY)
    with full_port() as port:
        caller = client(running.address)
        began = this.clock.now()
        invite(caller, f"sip:127.0.0.1:{port};transport=tcp", "OPTIONS")
        other = client(running.address)
        other.request("OPTIONS", headers="X-To: sip:127.0.0.1:1")  # nobody waits for it
        assert caller.final().status == 477
        assert this.clock.now() - began >= 0.3
        assert not connections(running)


class full_port:
    """A port that takes no further connection and does not say so."""

    def __enter__(self) -> int:
        self.sockets = [socket.socket()]
        self.sockets[0].bind(("127.0.0.1", 0))
        self.sockets[0].listen(0)
        address: tuple[str, int] = self.sockets[0].getsockname()
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            self.sockets.append(one)
        return address[1]

    def __exit__(self, *exc: object) -> None:
        for one in self.sockets:
            one.close()


def test_a_branch_flag_forbids_a_new_connection(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(
        "tcp_no_new_conn_bflag=ONLY_OPEN\n"
        'route { if ($hdr(X-Flag) != NULL) setbflag("ONLY_OPEN"); $du = $hdr(X-To);'
        ' if (!t_relay(0x02)) { t_reply(500, "Not open $rc"); } }'
    )
    callee, caller = listener(), client(running.address)
    to = f"X-To: sip:127.0.0.1:{callee.port};transport=tcp"
    caller.request("OPTIONS", headers=f"{to}\nX-Flag: 1")
    assert caller.final().reason == "Not open -6"
    caller.request("OPTIONS", headers=to)
    leg = callee.accept()
    leg.reply(leg.receive(), 200)
    assert caller.final().status == 200
    caller.request("OPTIONS", headers=f"{to}\nX-Flag: 1")
    leg.reply(leg.receive(), 200)
    assert caller.final().status == 200


def test_a_message_flag_forbids_a_new_connection_for_replies(
    tcp_server: Start, client: Client, stream: Stream, listener: Listener
) -> None:
    running = tcp_server("tcp_no_new_conn_rplflag=ONLY_OPEN\n" + 'route { setflag("ONLY_OPEN"); $du = $hdr(X-To); t_relay(); }')
    callee, caller, back = client(), stream(running.address), listener()
    invite(caller, f"sip:127.0.0.1:{callee.port}", "OPTIONS", port=str(back.port))
    received = callee.receive()
    caller.close()
    wait_connections(running, 0)
    callee.reply(received, 200)
    running.wait_log("a reply was not delivered: 200 OK, Call-ID ")
    with pytest.raises(AssertionError):
        back.accept(0.2)


# --- the way back -------------------------------------------------------------------------------------------------------


def test_a_reply_goes_over_the_connection_of_its_request_whatever_via_says(
    tcp_server: Start, client: Client, stream: Stream
) -> None:
    running = tcp_server(RELAY)
    callee, caller = client(), stream(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port}", "OPTIONS", port="9")
    callee.reply(callee.receive(), 200)
    assert caller.final().status == 200


def test_when_the_connection_has_gone_a_reply_goes_to_the_address_in_via(
    tcp_server: Start, client: Client, stream: Stream, listener: Listener
) -> None:
    running = tcp_server(RELAY)
    callee, caller, back = client(), stream(running.address), listener()
    invite(caller, f"sip:127.0.0.1:{callee.port}", "OPTIONS", port=str(back.port))
    received = callee.receive()
    caller.close()
    wait_connections(running, 0)
    callee.reply(received, 200)
    assert back.accept().final().status == 200


def test_a_reply_without_transaction_finds_its_connection(tcp_server: Start, client: Client, stream: Stream) -> None:
    running = tcp_server("route { $du = $hdr(X-To); forward(); }")
    callee, caller = client(), stream(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port}", "OPTIONS", port="9")
    callee.reply(callee.receive(), 200)
    assert caller.final().status == 200


def test_a_request_to_the_sender_goes_over_its_connection(tcp_server: Start, client: Client, stream: Stream) -> None:
    running = tcp_server('route { if ($hdr(X-To) == NULL) { sl_send_reply(200, "OK"); exit; } $du = $hdr(X-To); t_relay(); }')
    registered, caller = stream(running.address), client(running.address)
    registered.request("OPTIONS")
    assert registered.final().status == 200
    invite(caller, f"sip:127.0.0.1:{registered.port};transport=tcp", "MESSAGE")
    received = registered.receive()
    assert received.method == "MESSAGE"
    registered.reply(received, 200)
    assert caller.final().status == 200


ALIAS = """
route {
    if ($hdr(X-To) == NULL) { SCRIPT sl_send_reply(200, "OK"); exit; }
    $du = $hdr(X-To);
    t_relay();
}
"""


@pytest.mark.parametrize(
    ("settings", "script", "via"),
    [
        ("tcp_accept_aliases=yes\n", "", ";alias"),
        ("", "force_tcp_alias();", ""),
        ("", "force_tcp_alias({alias});", ""),
        ("", 'async(usleep(1000), resumed); } route[resumed] { force_tcp_alias(); t_reply(200, "OK"); exit;', ""),
    ],
)
def test_an_alias_leads_to_the_connection(
    tcp_server: Start, client: Client, stream: Stream, settings: str, script: str, via: str
) -> None:
    alias = free_port(socket.SOCK_STREAM)
    if "async" in script:
        settings = 'loadmodule "cfgutils.so"\n'
        text = f"route {{ if ($hdr(X-To) != NULL) {{ $du = $hdr(X-To); t_relay(); exit; }} {script} }}"
    else:
        text = ALIAS.replace("SCRIPT", script.replace("{alias}", str(alias)))
    running = tcp_server(settings + text, workers=3)
    registered, caller = stream(running.address), client(running.address)
    registered.send(
        f"OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/TCP {{ip}}:{alias};branch={{branch}}{via}\nFrom: <sip:a@b>;tag=1\n"
        "To: <sip:a@b>\nCall-ID: {call_id}\nCSeq: 1 OPTIONS\n\n"
    )
    assert registered.final().status == 200
    assert connections(running)[0]["Alias port"] == alias
    for _ in range(4):
        invite(caller, f"sip:127.0.0.1:{alias};transport=tcp", "MESSAGE")
        registered.reply(registered.receive(), 200)
        assert caller.final().status == 200
    registered.close()
    wait_connections(running, 0)
    invite(caller, f"sip:127.0.0.1:{alias};transport=tcp", "MESSAGE")
    assert caller.final().status == 477


def test_an_alias_cannot_be_taken_from_another_connection(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('route { if (force_tcp_alias(7777)) sl_send_reply(200, "OK"); else sl_send_reply(403, "Taken"); }')
    first, second = stream(running.address), stream(running.address)
    first.request("OPTIONS")
    assert first.final().status == 200
    second.request("OPTIONS")
    assert second.final().status == 403
    running.wait_log("possible port hijack attempt")
    first.close()
    wait_connections(running, 1)
    second.request("OPTIONS")
    assert second.final().status == 200


def test_a_connection_that_broke_unnoticed_is_opened_again(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    for _ in range(3):
        invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", "OPTIONS")
        leg = callee.accept()
        leg.reply(leg.receive(), 200)
        assert caller.final().status == 200
        leg.close()
        wait_connections(running, 0)


# --- choosing the transport ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "$ru = $hdr(X-To); t_relay();",
        "$du = $hdr(X-To); t_relay();",
        't_relay(, "tcp:127.0.0.1:$(hdr(X-To){uri.port})");',
        'forward("tcp:127.0.0.1:$(hdr(X-To){uri.port})");',
        'send("tcp:127.0.0.1:$(hdr(X-To){uri.port})");',
        '$ru = $hdr(X-To); force_send_socket("tcp:127.0.0.1:{port}"); t_relay();',
        '$ru = "sip:nobody@127.0.0.1:1"; append_branch($hdr(X-To)); t_relay();',
    ],
)
def test_every_way_to_say_tcp(tcp_server: Start, client: Client, listener: Listener, script: str) -> None:
    running = tcp_server("route { " + script + " }")
    callee, caller = listener(), client(running.address)
    invite(caller, f"sip:x@127.0.0.1:{callee.port};transport=TCP", "OPTIONS")
    assert callee.accept().receive().method == "OPTIONS"


def test_transport_of_the_sending_socket_is_seen_by_scripts(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(
        'route { t_on_branch("b"); $du = $hdr(X-To); force_send_socket("tcp:127.0.0.1:{port}"); t_relay(); }\n'
        'branch_route[b] { xlog("out $socket_out\\n"); }'
    )
    callee, caller = listener(), client(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", "OPTIONS")
    callee.accept().receive()
    assert running.lines(f"out tcp:127.0.0.1:{running.port}")


def test_the_port_of_the_module_is_that_of_destinations_without_one(
    tcp_server: Start, client: Client, listener: Listener
) -> None:
    callee = listener()
    running = tcp_server(f'modparam("proto_tcp", "tcp_port", {callee.port})\n' + RELAY)
    caller = client(running.address)
    invite(caller, "sip:127.0.0.1;transport=tcp", "OPTIONS")
    assert callee.accept().receive().method == "OPTIONS"


def test_without_a_tcp_socket_there_is_no_way_to_tcp(server: Start, client: Client) -> None:
    running = server('loadmodule "tm.so"\nroute { $du = "sip:127.0.0.1:9;transport=tcp"; t_relay(); }')
    caller = client(running.address)
    caller.request("OPTIONS")
    assert caller.final().status == 476


def test_requests_of_the_server_itself_go_over_tcp(tcp_server: Start, listener: Listener) -> None:
    running = tcp_server("route { exit; }")
    callee = listener()
    arguments = {
        "method": "MESSAGE",
        "ruri": f"sip:x@127.0.0.1:{callee.port};transport=tcp",
        "headers": "From: <sip:a@b>\r\nTo: <sip:c@d>\r\n",
    }
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(running.mi, "t_uac_dlg", arguments)
        leg = callee.accept()
        received = leg.receive()
        assert received.method == "MESSAGE"
        assert received.header("Via").startswith("SIP/2.0/TCP ")
        leg.reply(received, 202, "Accepted")
        assert answer.result()["Status"].startswith("202")
