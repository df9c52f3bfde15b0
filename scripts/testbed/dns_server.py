"""A DNS server for tests, over UDP and TCP, whose faults are at choice.

It runs in the test's process, on a thread. Names are given as lines of a zone file; what is not there does not exist. Faults are
set by name: a delay, silence, SERVFAIL, a response that is cut short over UDP, one with a wrong identifier before the true one.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from scripts.testbed.ports import free_port

ORIGIN = dns.name.root
NEGATIVE = "test. {ttl} IN SOA ns.test. admin.test. 1 3600 600 86400 {ttl}"


@dataclass
class Fault:
    """What is wrong with the answers to one name."""

    delay: float = 0.0
    """Seconds before it is answered."""
    silent: bool = False
    servfail: bool = False
    truncated: bool = False
    """Over UDP: TC and no records."""
    forged: bool = False
    """Before the true response comes one with another identifier and the address 192.0.2.66."""
    no_edns: bool = False
    """FORMERR to questions with EDNS."""


class DnsServer:
    """``zone``: lines such as ``a.test. 60 IN A 127.0.0.2``; a name may have many. ``asked`` counts questions."""

    def __init__(self, zone: str = "", host: str = "127.0.0.1", port: int = 0, negative_ttl: int = 60) -> None:
        self.host = host
        self.port = port or _free_pair()
        self.negative_ttl = negative_ttl
        self.records: dict[tuple[dns.name.Name, str], list[str]] = {}
        self.names: set[dns.name.Name] = set()
        self.faults: dict[dns.name.Name, Fault] = {}
        self.asked: Counter[str] = Counter()
        """``"name TYPE"``, over UDP and TCP; ``"tcp"``: over TCP."""
        self.ports: list[int] = []
        """Source ports of the questions over UDP."""
        self.identifiers: list[int] = []
        self.add(zone)
        self._due: list[tuple[float, int, bytes, tuple[str, int]]] = []
        self._order = itertools.count()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, self.port))
        self._tcp = socket.create_server((host, self.port))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="dns server", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As the core parameter dns_servers takes it."""
        return f"{self.host}:{self.port}"

    def add(self, zone: str) -> None:
        """Add lines of a zone file."""
        for line in zone.strip().splitlines():
            if not line.strip():
                continue
            name, ttl, _, type, rest = line.split(None, 4)
            owner = dns.name.from_text(name, ORIGIN)
            self.records.setdefault((owner, type), []).append(f"{ttl} {rest}")
            while owner != ORIGIN:
                self.names.add(owner)
                owner = owner.parent()

    def fail(self, name: str, **faults: object) -> None:
        """Set what is wrong with ``name``; nothing given: all is well."""
        self.faults[dns.name.from_text(name, ORIGIN)] = Fault(**faults)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop answering."""
        self._stopped.close()
        self._thread.join(5)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        with self._stop, self._udp, self._tcp:
            while True:
                wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
                ready = select.select([self._stop, self._udp, self._tcp], [], [], wait)[0]
                while self._due and self._due[0][0] <= time.monotonic():
                    _, _, data, address = heapq.heappop(self._due)
                    self._udp.sendto(data, address)
                if self._stop in ready:
                    return
                if self._udp in ready:
                    data, address = self._udp.recvfrom(65535)
                    self._datagram(data, address)
                if self._tcp in ready:
                    self._connection(self._tcp.accept()[0])

    def _datagram(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.ports.append(address[1])
        self.identifiers.append(query.id)
        fault = self.faults.get(query.question[0].name, Fault())
        response = self._answer(query, fault, udp=True)
        if fault.silent:
            return
        if fault.forged:
            forgery = dns.message.from_wire(data)
            forgery.flags |= dns.flags.QR
            forgery.id ^= 1
            forgery.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.66")]
            self._udp.sendto(forgery.to_wire(), address)
        if fault.delay:
            heapq.heappush(self._due, (time.monotonic() + fault.delay, next(self._order), response, address))
        else:
            self._udp.sendto(response, address)

    def _connection(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                length = int.from_bytes(_exactly(connection, 2), "big")
                query = dns.message.from_wire(_exactly(connection, length))
                self.asked["tcp"] += 1
                response = self._answer(query, self.faults.get(query.question[0].name, Fault()), udp=False)
                # in two pieces: a reader has to put them together
                framed = len(response).to_bytes(2, "big") + response
                connection.sendall(framed[:7])
                time.sleep(0.01)
                connection.sendall(framed[7:])
            except (OSError, EOFError):
                return

    def _answer(self, query: dns.message.Message, fault: Fault, udp: bool) -> bytes:
        question = query.question[0]
        type = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{question.name.to_text(omit_final_dot=True)} {type}"] += 1
        if fault.no_edns and query.edns >= 0:
            response = dns.message.make_response(query)
            response.use_edns(False)
            response.set_rcode(dns.rcode.FORMERR)
            return response.to_wire(want_shuffle=False)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if fault.servfail:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif fault.truncated and udp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question.name, type)
        return response.to_wire(max_size=0 if udp else 65535, want_shuffle=False)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, type: str) -> None:
        while (alias := self.records.get((name, "CNAME"))) is not None:
            ttl, target = alias[0].split(None, 1)
            response.answer.append(dns.rrset.from_text(name, int(ttl), "IN", "CNAME", target))
            name = dns.name.from_text(target, ORIGIN)
        found = self.records.get((name, type))
        if found:
            ttl = found[0].split()[0]
            response.answer.append(dns.rrset.from_text(name, int(ttl), "IN", type, *(r.split(None, 1)[1] for r in found)))
            return
        if name not in self.names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        owner, ttl, _, type, soa = NEGATIVE.format(ttl=self.negative_ttl).split(None, 4)
        response.authority.append(dns.rrset.from_text(owner, int(ttl), "IN", type, soa))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _free_pair() -> int:
    """A port that is free for UDP and TCP."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
