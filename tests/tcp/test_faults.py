"""What peers and processes may do to connections: not reading, dying, coming in masses. Nothing waits, nothing leaks."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import psutil

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from tests.support.sip_stream import SipStream, StreamListener
from tests.tcp.test_receiving import request
from tests.tcp.test_sending import RELAY, connections, invite, wait_connections

Start = Callable[..., Server]
Stream = Callable[..., SipStream]
Listener = Callable[..., StreamListener]
Client = Callable[..., SipClient]

ANSWER = 'route { sl_send_reply(200, "OK"); }'


def kill_owners(running: Server) -> None:
    """SIGKILL every TCP receiver that owns a connection."""
    pids = {process["ID"]: process["PID"] for process in running.mi("ps")["Processes"]}
    for slot in {one["Process"] for one in connections(running)}:
        os.kill(pids[slot], signal.SIGKILL)


# --- a process dies -----------------------------------------------------------------------------------------------------


def test_a_connection_outlives_its_process(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER, workers=3)
    sip = stream(running.address)
    for n in range(3):
        sip.request("OPTIONS")
        assert sip.final().status == 200
        kill_owners(running)
        running.wait_log("connections go on in another process", count=n + 1)
        assert wait_connections(running, 1)[0]["Remote"] == f"127.0.0.1:{sip.port}"
    sip.request("OPTIONS")
    assert sip.final().status == 200
    sip.close()
    wait_connections(running, 0)


def test_the_only_receiver_dies_and_its_successor_goes_on(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER, workers=1)
    sip = stream(running.address)
    sip.request("OPTIONS")
    assert sip.final().status == 200
    kill_owners(running)
    sip.request("OPTIONS")
    assert sip.final(10).status == 200


def test_connections_outlive_all_receivers_at_once(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER, workers=3)
    made = [stream(running.address) for _ in range(30)]
    whole = [request(sip) for sip in made]
    for sip, data in zip(made, whole, strict=True):
        sip.send_raw(data[:60])
    wait_connections(running, 30)
    for pid in running.pids("TCP receiver"):
        os.kill(pid, signal.SIGKILL)
    for sip, data in zip(made, whole, strict=True):
        sip.send_raw(data[60:])
    assert [sip.final(20).status for sip in made] == [200] * 30
    assert len(wait_connections(running, 30)) == 30


def test_half_a_message_outlives_its_process(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    first, second = request(sip), request(sip)
    sip.send_raw(first + second[:50])
    assert sip.final().status == 200
    kill_owners(running)
    running.wait_log("connections go on in another process")
    sip.send_raw(second[50:])
    reply = sip.final()
    assert reply.header("Call-ID") == sip.sent["call_id"]
    assert len(connections(running)) == 1


def test_messages_behind_the_one_that_kills_are_processed(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(
        'loadmodule "cfgutils.so"\n'
        'route { if ($hdr(X-Wait) != NULL) { xlog("process $pp waits\n"); sleep(20); } sl_send_reply(200, "OK"); }'
    )
    sip = stream(running.address)
    first, second = request(sip, "X-Wait: 1\n"), request(sip)
    sip.send_raw(first + second)
    [line] = running.wait_log(" waits")
    os.kill(int(line.split()[-2]), signal.SIGKILL)
    assert sip.final(10).header("Call-ID") == sip.sent["call_id"]


def test_a_call_goes_on_over_a_connection_of_a_dead_process(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp")
    leg = callee.accept()
    received = leg.receive()
    leg.reply(received, 180, "Ringing")
    while caller.receive().status != 180:
        pass
    kill_owners(running)
    running.wait_log("connections go on in another process")
    leg.reply(received, 200)
    assert caller.final().status == 200
    invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", "OPTIONS")
    assert leg.receive().method == "OPTIONS"


def test_a_suspended_script_answers_over_the_connection_although_its_process_has_died(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('loadmodule "cfgutils.so"\nroute { async(sleep(2), answer); }\nroute[answer] { t_reply(200, "OK"); }')
    sip = stream(running.address)
    sip.request("OPTIONS")
    end = this.clock.now() + 20
    while not running.mi("async_list")["Count"]:
        assert this.clock.now() < end
    kill_owners(running)
    assert sip.final(10).status == 200


# --- a peer does not read -----------------------------------------------------------------------------------------------


def small_buffer(listener: StreamListener) -> None:
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def flood(caller: SipClient, to: str, count: int) -> None:
    """Requests of 30 kB each."""
    for _ in range(count):
        caller.send_raw(caller.render(big_message(to)))
        time.sleep(0.001)


def big_message(to: str) -> str:
    return (
        "MESSAGE sip:a@b SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nMax-Forwards: 70\nFrom: <sip:a@b>;tag=1\n"
        f"To: <sip:a@b>\nCall-ID: {{call_id}}\nCSeq: 1 MESSAGE\nX-To: {to}\n\n" + "x" * 30_000
    )


def test_a_peer_that_never_reads_holds_up_nobody(tcp_server: Start, client: Client, listener: Listener, stream: Stream) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    small_buffer(callee)
    to = f"sip:127.0.0.1:{callee.port};transport=tcp"
    for _ in range(100):  # again and again: of so many datagrams a busy machine loses some
        flood(caller, to, 40)
        if "32 messages wait for the peer already" in running.log:
            break
    running.wait_log("32 messages wait for the peer already")
    other = stream(running.address)
    other.request("OPTIONS", headers="X-To: sip:127.0.0.1:1")
    other.request("REGISTER", headers="X-To: bad uri")
    assert other.final(20).status >= 400
    assert caller.final(20).status == 477


def test_without_tcp_async_a_peer_has_a_limited_time_to_read(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server('modparam("proto_tcp", "tcp_async", 0)\nmodparam("proto_tcp", "tcp_send_timeout", 200)\n' + RELAY)
    callee, caller = listener(), client(running.address)
    small_buffer(callee)
    late = "the peer has read nothing for 200 ms (tcp_send_timeout)"
    for _ in range(100):  # slowly: more than a megabyte waiting would end the connection before its time is up
        flood(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", 10)
        time.sleep(0.1)
        if late in running.log:
            break
    running.wait_log(late)
    assert caller.final().status == 477


def test_a_slow_peer_gets_everything_in_order(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server('tcp_threshold=1\nmodparam("proto_tcp", "tcp_async_max_postponed_chunks", 1000)\n' + RELAY)
    callee, caller = listener(), client(running.address)
    small_buffer(callee)
    to = f"sip:127.0.0.1:{callee.port};transport=tcp"
    sent = []
    for _ in range(60):
        caller.send_raw(caller.render(big_message(to)))
        sent.append(caller.sent["call_id"])
        time.sleep(0.002)
    leg = callee.accept()
    got = [leg.receive(10).header("Call-ID") for _ in sent]
    assert sorted(got) == sorted(sent)
    running.wait_log("threshold exceeded : tcp took too long")  # some have waited
    assert len(connections(running)) == 1


def test_a_burst_to_an_address_that_is_being_connected_to_is_kept(tcp_server: Start, client: Client, listener: Listener) -> None:
    running = tcp_server(RELAY)
    callee, caller = listener(), client(running.address)
    to = f"sip:127.0.0.1:{callee.port};transport=tcp"
    for pid in running.pids("TCP receiver"):
        os.kill(pid, signal.SIGSTOP)
    for _ in range(200):
        invite(caller, to, "MESSAGE")
        time.sleep(0.001)
    for pid in running.pids("TCP receiver"):
        os.kill(pid, signal.SIGCONT)
    leg = callee.accept()
    assert [leg.receive().method for _ in range(200)] == ["MESSAGE"] * 200


def test_a_stuck_receiver_does_not_keep_others_from_new_connections(
    tcp_server: Start, client: Client, stream: Stream, listener: Listener
) -> None:
    running = tcp_server(
        'loadmodule "cfgutils.so"\n'
        'route { if ($hdr(X-Wait) != NULL) { xlog("stuck\\n"); sleep(4); }'
        ' if ($hdr(X-To) != NULL) { $du = $hdr(X-To); t_relay(); } else sl_send_reply(200, "OK"); }'
    )
    stuck, caller = stream(running.address), client(running.address)
    stuck.request("OPTIONS", headers="X-Wait: 1")
    running.wait_log("stuck")
    time.sleep(0.1)
    began = this.clock.now()
    for _ in range(4):
        callee, other = listener(), stream(running.address)
        invite(caller, f"sip:127.0.0.1:{callee.port};transport=tcp", "MESSAGE")
        leg = callee.accept()
        leg.reply(leg.receive(), 200)
        assert caller.final().status == 200
        other.request("OPTIONS")
        assert other.final().status == 200
    assert this.clock.now() - began < 3.5


# --- masses -------------------------------------------------------------------------------------------------------------


def descriptors(running: Server) -> int:
    return sum(psutil.Process(pid).num_fds() for pid in running.pids())


def test_a_thousand_connections_leave_nothing_behind(tcp_server: Start) -> None:
    running = tcp_server("tcp_socket_backlog=512\n" + ANSWER)
    connections(running)  # management opens descriptors of its own at first use
    before = descriptors(running) + 10
    made = [SipStream(running.address) for _ in range(1000)]
    for sip in made:
        sip.request("OPTIONS")
    assert [sip.final(10).status for sip in made] == [200] * 1000
    assert len(connections(running)) == 1000
    for sip in made:
        sip.close()
    wait_connections(running, 0)
    end = this.clock.now() + 20
    while descriptors(running) > before:
        assert this.clock.now() < end, f"{descriptors(running)} descriptors, {before} before"
        time.sleep(0.1)


def test_slow_senders_do_not_hold_up_others(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server("tcp_max_msg_time=1\n" + ANSWER)
    slow = [stream(running.address) for _ in range(50)]
    for sip in slow:
        sip.send_raw(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ")
    other = stream(running.address)
    other.request("OPTIONS")
    assert other.final().status == 200
    for sip in slow:
        sip.closed()


def test_hanging_up_at_every_point_leaves_nothing_behind(tcp_server: Start) -> None:
    running = tcp_server(ANSWER)
    connections(running)  # management opens descriptors of its own at first use
    before = descriptors(running) + 10
    whole = b""
    for cut in range(0, 400, 7):
        sip = SipStream(running.address)
        whole = whole or request(sip)
        sip.send_raw(whole[:cut])
        if cut % 2:  # with a reset
            sip.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sip.close()
    wait_connections(running, 0)
    end = this.clock.now() + 20
    while descriptors(running) > before:
        assert this.clock.now() < end
        time.sleep(0.1)


def test_a_server_that_stops_hangs_up_and_answers_what_is_under_way(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('loadmodule "cfgutils.so"\nroute { async(sleep(1), answer); }\nroute[answer] { t_reply(200, "OK"); }')
    sip = stream(running.address)
    sip.request("OPTIONS")
    end = this.clock.now() + 20
    while not running.mi("async_list")["Count"]:
        assert this.clock.now() < end
    running.process.send_signal(signal.SIGTERM)
    assert sip.final().status == 200
    sip.closed()
    assert running.process.wait(10) == 0


def test_a_server_that_stops_sends_over_tcp_what_is_under_way_in_udp_receivers(
    tcp_server: Start, client: Client, listener: Listener
) -> None:
    callee = listener()
    running = tcp_server(
        'loadmodule "exec.so"\nroute { async(exec("cat {tmp}/gate", , $avp(out)), go); }\n'
        f'route[go] {{ $du = "sip:127.0.0.1:{callee.port};transport=tcp"; t_relay(); }}',
        workers=1,
    )
    os.mkfifo(running.tmp / "gate")
    client(running.address).request("MESSAGE")
    end = this.clock.now() + 20
    while not running.mi("async_list")["Count"]:
        assert this.clock.now() < end
    running.process.send_signal(signal.SIGTERM)
    (running.tmp / "gate").write_text("open")
    assert callee.accept().receive().method == "MESSAGE"


def test_a_server_that_stops_sends_over_tcp_what_a_running_script_relays(
    tcp_server: Start, client: Client, listener: Listener
) -> None:
    callee = listener()
    running = tcp_server(
        'loadmodule "cfgutils.so"\nroute { xlog("L_ERR", "begun\\n"); sleep(1); '
        f'$du = "sip:127.0.0.1:{callee.port};transport=tcp"; t_relay(); }}',
        workers=1,
    )
    client(running.address).request("MESSAGE")
    running.wait_log("begun")
    running.process.send_signal(signal.SIGTERM)
    assert callee.accept().receive().method == "MESSAGE"


def test_a_server_that_stops_answers_503_over_tcp_in_the_end(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(
        'async_drain_timeout=1\nloadmodule "cfgutils.so"\n'
        'route { async(sleep(60), answer); }\nroute[answer] { t_reply(200, "OK"); }'
    )
    sip = stream(running.address)
    sip.request("OPTIONS")
    end = this.clock.now() + 20
    while not running.mi("async_list")["Count"]:
        assert this.clock.now() < end
    running.process.send_signal(signal.SIGTERM)
    assert sip.final().status == 503
    assert running.process.wait(10) == 0


def test_routes_are_reloaded_under_open_connections(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.request("OPTIONS")
    assert sip.final().status == 200
    running.config.write_text(running.config.read_text().replace('(200, "OK")', '(202, "New")'))
    assert running.mi("reload_routes") == "OK"
    sip.request("OPTIONS")
    assert sip.final().status == 202


def test_a_connection_refused_for_want_of_descriptors_comes_later(tcp_server: Start) -> None:
    running = tcp_server("tcp_socket_backlog=100\n" + ANSWER, workers=1)
    [pid] = running.pids("TCP receiver")
    psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (psutil.Process(pid).num_fds() + 5, 1000))
    made = [SipStream(running.address) for _ in range(20)]
    running.wait_log("cannot accept connections")
    psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (1000, 1000))
    for sip in made:
        sip.request("OPTIONS")
        assert sip.final().status == 200
        sip.close()
