"""A running server under attack: how long everybody else waits, and what is left afterwards.

One sender after the other sends one kind of hostile datagram, connection or management command, as large as it may be.
Meanwhile a well-behaved client asks for an answer again and again.
"""

from __future__ import annotations

import itertools
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from scripts.hostile.messages import filled, message
from scripts.testbed.server import Server

SCRIPT = """
log_level=2
log_stderror=yes
udp_workers={workers}
tcp_workers={workers}
maxbuffer=4194304
socket=udp:127.0.0.1:{port}
socket=tcp:127.0.0.1:{port}
loadmodule "proto_udp.so"
loadmodule "mi_fifo.so"
modparam("mi_fifo", "fifo_name", "{tmp}/fifo")
modparam("mi_fifo", "reply_dir", "{tmp}/")
loadmodule "proto_tcp.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "sipmsgops.so"
loadmodule "textops.so"
loadmodule "nathelper.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("tm", "fr_timeout", 2)
modparam("tm", "fr_inv_timeout", 2)
modparam("tm", "wt_timer", 1)
modparam("usrloc", "timer_interval", 2)
modparam("registrar", "min_expires", 1)
route {
    if (!mf_process_maxfwd_header(10)) { sl_send_reply(483, "Too Many Hops"); exit; }
    if ($rm == "OPTIONS") { sl_send_reply(200, "OK"); exit; }
    if ($rm == "REGISTER") { fix_nated_contact(); save("location"); exit; }
    if (has_totag()) loose_route();
    remove_hf("Contact");
    list_hdr_remove_option("Supported", "timer");
    codec_delete("PCMU");
    fix_nated_sdp(10);
    record_route();
    if (!lookup("location")) $du = "sip:127.0.0.1:9";
    t_relay();
}
"""
LARGEST = 60_000
ALLOWED = 0.05
"""Seconds that anybody else may wait for one datagram, connection or command."""

UNITS = ("(", '"', ",", "<sip:a@b>,", ";a=1", "<sip:a@b;x=1>;expires=9,", "\r\n ")


class Result(NamedTuple):
    """What one attack has done to the others."""

    name: str
    waits: list[float]
    """Seconds that the other client has waited, each time."""

    def __str__(self) -> str:
        longest = max(self.waits, default=0.0)
        usual = statistics.median(self.waits) * 1000
        return f"{self.name:<48} {len(self.waits):5} asked, median {usual:6.2f} ms, longest {longest * 1000:7.2f} ms"


def datagrams() -> Iterator[tuple[str, bytes]]:
    """One of each kind, as large as limits allow and larger."""
    number = itertools.count(1)
    for size in (15_000, LARGEST):
        for kind in ("Via", "Contact", "Route", "From", "X"):
            for unit in UNITS:
                start = f"{_fresh(next(number))['Via']};" if kind == "Via" else "<sip:a@b>,"
                yield f"{kind} of {unit!r}, {size}", message(_fresh(next(number)) | {kind: filled(unit, size, start)})
        for line in ("m: <sip:a@b>", "m:", "Route: <sip:a@b;lr>", "k: timer", "X: y"):
            yield f"lines {line!r}, {size}", message(_fresh(next(number)), (line + "\r\n") * (size // (len(line) + 2)))
        contacts = ",".join(f"<sip:u{n}@h{n}>" for n in range(size // 16))
        registers = _fresh(next(number)) | {"CSeq": "1 REGISTER", "To": "<sip:u@d>", "Contact": contacts}
        yield f"REGISTER of {size // 16} contacts", message(registers).replace(b"INVITE", b"REGISTER")
        described = _fresh(next(number)) | {"Content-Type": "application/sdp"}
        body = "v=0\r\nm=audio 1 RTP/AVP " + " ".join(map(str, range(size // 20))) + "\r\n"
        body += "".join(f"a=rtpmap:{n} P/8\r\n" for n in range(size // 40))
        yield (
            f"SDP of {size // 20} payload types",
            message(described, content=body),
        )


def _fresh(number: int) -> dict[str, str]:
    """Headers of a request that is not a repetition of another."""
    return {"Via": f"SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKa{number}", "Call-ID": f"a{number}", "To": "<sip:c@d>"}


def streams() -> Iterator[tuple[str, bytes]]:
    """What one connection sends."""
    small = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKt\r\nl:0\r\n\r\n"
    yield "connection: many small requests", small * (1_000_000 // len(small))
    yield "connection: many pings", b"\r\n\r\n" * 250_000
    yield "connection: a header without end", b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"a" * 1_000_000
    yield "connection: nothing but line ends", b"\n" * 1_000_000


def commands() -> Iterator[tuple[str, bytes]]:
    """What is written into the management FIFO."""
    for unit in (b':r:{"id":', b':r:{"x":1}', b"::{}", b'"', b"{", b':r:{"a":"'):
        yield f"FIFO: {unit.decode()!r}", unit * (LARGEST // len(unit))


class Asker:
    """The well-behaved client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._number = 0

    def ask(self) -> float:
        """Seconds until the answer came."""
        self._number += 1
        port = self._socket.getsockname()[1] or 5060
        number = f"o{self._number}"
        via = f"SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bK{number}"
        request = message({"Via": via, "CSeq": "1 OPTIONS", "Call-ID": number}).replace(b"INVITE", b"OPTIONS")
        start = time.perf_counter()
        self._socket.sendto(request, self._address)
        while f"Call-ID: o{self._number}\r\n".encode() not in self._socket.recv(65536):
            pass
        return time.perf_counter() - start

    def close(self) -> None:
        """The end."""
        self._socket.close()


def under_attack(asker: Asker, name: str, attack: Callable[[], None], after: float = 0.02) -> Result:
    """Ask while ``attack`` goes on, and a little longer."""
    sender = threading.Thread(target=attack)
    waits = []
    sender.start()
    end = None
    while end is None or time.monotonic() < end:
        waits.append(asker.ask())
        if end is None and not sender.is_alive():
            end = time.monotonic() + after
    sender.join()
    return Result(name, waits)


def attacks(running: Server) -> Iterator[tuple[str, Callable[[], None]]]:
    """All of them, with what carries them out."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with closing(sender):
        for name, data in datagrams():
            yield name, lambda data=data: sender.sendto(data[:65_000], running.address) and None  # type: ignore[misc]
    for name, data in streams():
        yield name, lambda data=data: _connection(running.address, data)  # type: ignore[misc]
    for name, data in commands():
        yield name, lambda data=data: _fifo(running, data)  # type: ignore[misc]


def _connection(address: tuple[str, int], data: bytes) -> None:
    """Send as much as the server takes in a second, and read nothing."""
    with socket.create_connection(address, 5) as peer:
        peer.settimeout(1)
        try:
            peer.sendall(data)
        except OSError:
            pass  # it has hung up, or reads no more: both are right


def _fifo(running: Server, data: bytes) -> None:
    fd = os.open(running.fifo, os.O_WRONLY)
    with closing(os.fdopen(fd, "wb", buffering=0)) as fifo:
        fifo.write(data)


def start() -> Server:
    """The server that is attacked."""
    return Server(SCRIPT, workers=2, options=["-m", "64"])


def figures(running: Server) -> tuple[int, int]:
    """Bytes in its store, and bytes that its processes have for themselves."""
    return running.statistics("used_size")["shmem:used_size"], running.uss()
