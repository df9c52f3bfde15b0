"""Callers and callees that keep account of every call: who was answered, how often, and who waits in vain.

Both sides are user agents after RFC 3261 in one process: requests are repeated until they are answered (17.1), final replies to
an INVITE until they are acknowledged (13.3.1.4, 17.2.1), and a share of the datagrams can be thrown away in each direction.
sipp counts calls; this one also knows for each which final replies came and which requests were made of it downstream.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

T1, T2 = 0.5, 4.0
PATIENCE = 40.0
"""Seconds after which a call without a final reply counts as hanging: more than 64 times T1."""

_status_of = re.compile(rb"SIP/2\.0 (\d\d\d) ").match
_call_id_of = re.compile(rb"\r\nCall-ID: *([^\r\n]*)").search
_cseq_of = re.compile(rb"\r\nCSeq: *(\d+) (\w+)").search
_branch_of = re.compile(rb"\r\nVia: [^\r\n]*?branch=([^;,\r\n]*)").search
_to_of = re.compile(rb"\r\nTo: *([^\r\n]*)").search
_contact_of = re.compile(rb"\r\nContact: *<([^>]*)>").search
_IN_REPLIES = (b"Via", b"Record-Route", b"From", b"To", b"Call-ID", b"CSeq")
"""Headers that a reply has from its request (RFC 3261 8.2.6.2, 12.1.1)."""
_line_of = {name: re.compile(rb"\r\n(" + name + rb": *[^\r\n]*)") for name in _IN_REPLIES}


@dataclass
class Call:
    """One call as its caller knows it."""

    number: int
    user: str
    begun: float
    finals: set[bytes] = field(default_factory=set)
    """Distinct final replies to the INVITE."""
    status: int = 0
    answered_at: float = 0.0
    bye_status: int = 0
    branches: set[bytes] = field(default_factory=set)
    """Branches of the INVITEs that have reached the callee."""
    ended: bool = False


@dataclass
class Account:
    """What the calls came to."""

    calls: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    hanging: list[int] = field(default_factory=list)
    """Numbers of the calls without a final reply."""
    answered_twice: list[int] = field(default_factory=list)
    sent_twice: list[int] = field(default_factory=list)
    """Calls whose INVITE reached the callee as two transactions."""
    without_bye: list[int] = field(default_factory=list)
    """Calls whose BYE was not answered."""
    slowest: float = 0.0
    """Seconds from INVITE to final reply."""

    def faults(self) -> list[str]:
        """What should not have been, in words; empty when all is well."""
        found = []
        for what, calls in (
            ("have no final reply", self.hanging),
            ("were answered twice", self.answered_twice),
            ("were sent to the callee twice", self.sent_twice),
            ("could not be ended with BYE", self.without_bye),
        ):
            if calls:
                found.append(f"{len(calls)} of {self.calls} calls {what}: {calls[:10]}")
        return found


class Calls:
    """Caller and callee. ``user(n)`` is the user part of the n-th call's R-URI, by which the script decides what to do."""

    def __init__(
        self,
        server: tuple[str, int],
        *,
        rate: float,
        user: Callable[[int], str] = lambda n: "bob",
        lose: float = 0.0,
        busy: float = 0.2,
        seed: int = 1,
    ) -> None:
        self.server = server
        self.rate = rate
        self.user = user
        self.lose = lose
        """Share of the datagrams that are thrown away, sent and received ones alike."""
        self.busy = busy
        """Share of the calls that the callee declines with 486."""
        self.random = random.Random(seed)
        self.caller, self.callee = _socket(), _socket()
        self.calls: dict[bytes, Call] = {}
        self.lost = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._open: dict[tuple[str, bytes, bytes], bool] = {}
        """What is being repeated: side, Call-ID, and which message."""
        self._made: dict[bytes, bytes] = {}
        """The callee's final reply to each INVITE, by Call-ID and branch."""
        self._poll = select.poll()
        for each in (self.caller, self.callee):
            self._poll.register(each, select.POLLIN)

    @property
    def callee_port(self) -> int:
        return int(self.callee.getsockname()[1])

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, seconds: float, now_and_then: Callable[[float], None] = lambda now: None) -> Account:
        """Make calls for ``seconds``, then wait until all have ended; ``now_and_then`` is called with the time meanwhile."""
        start = time.monotonic()
        self._tag = f"{self.callee_port}-{int(start)}"
        wanted = int(seconds * self.rate)
        for n in range(wanted):
            self._at(start + n / self.rate, lambda n=n: self._begin(n))  # type: ignore[misc]
        end = start + seconds
        while True:
            now = time.monotonic()
            if now < end:
                now_and_then(now)
            elif (all(call.ended for call in self.calls.values()) and len(self.calls) == wanted) or now > end + PATIENCE + 35:
                break
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            left = min(0.02, max(0.0, self._due[0][0] - now)) if self._due else 0.02
            for descriptor, _ in self._poll.poll(left * 1000 + 0.5):
                self._receive(self.caller if descriptor == self.caller.fileno() else self.callee)
        return self._account()

    def close(self) -> None:
        self.caller.close()
        self.callee.close()

    def _account(self) -> Account:
        account = Account(len(self.calls))
        for call in self.calls.values():
            account.by_status[call.status] = account.by_status.get(call.status, 0) + 1
            if not call.finals:
                account.hanging.append(call.number)
            elif len(call.finals) > 1:
                account.answered_twice.append(call.number)
            elif call.status == 200 and call.bye_status != 200:
                account.without_bye.append(call.number)
            if len(call.branches) > 1:
                account.sent_twice.append(call.number)
            account.slowest = max(account.slowest, call.answered_at - call.begun)
        return account

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def _send(self, side: socket.socket, data: bytes, to: tuple[str, int] | None = None) -> None:
        if self.lose and self.random.random() < self.lose:
            self.lost += 1
            return
        side.sendto(data, to or self.server)

    def _repeat(self, side: socket.socket, name: tuple[str, bytes, bytes], data: bytes, give_up: Callable[[], None]) -> None:
        """Send now, and again at T1, 2·T1 … T2 until ``_open[name]`` is taken out; ``give_up`` after 64·T1."""
        self._open[name] = True
        end = time.monotonic() + 64 * T1

        def again(interval: float) -> None:
            if name not in self._open:
                return
            if time.monotonic() > end:
                del self._open[name]
                give_up()
                return
            self._send(side, data)
            self._at(time.monotonic() + interval, lambda: again(min(2 * interval, T2)))

        again(T1)

    # --- the caller --------------------------------------------------------------------------------------------------

    def _request(self, method: str, call: Call, uri: str, branch: str, to: bytes, more: str = "") -> bytes:
        port = self.caller.getsockname()[1]
        cseq = 2 if method == "BYE" else 1
        return (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{branch}-{call.number}\r\n"
            f"From: <sip:alice@127.0.0.1>;tag=c{call.number}\r\n"
            f"To: {to.decode('latin-1')}\r\n"
            f"Call-ID: {call.number}@{self._tag}\r\nCSeq: {cseq} {method}\r\n"
            f"Max-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:{port}>\r\n{more}Content-Length: 0\r\n\r\n"
        ).encode("latin-1")

    def _begin(self, number: int) -> None:
        call = Call(number, self.user(number), time.monotonic())
        call_id = f"{number}@{self._tag}".encode()
        self.calls[call_id] = call
        uri = f"sip:{call.user}@{self.server[0]}:{self.server[1]}"
        data = self._request("INVITE", call, uri, "i", f"<sip:{call.user}@127.0.0.1>".encode())

        def never() -> None:
            call.ended = True

        def patience_ends() -> None:
            if not call.finals:
                call.ended = True

        self._repeat(self.caller, ("caller", call_id, b"INVITE"), data, never)
        self._at(call.begun + PATIENCE, patience_ends)

    def _reply(self, data: bytes, status: int, call_id: bytes, method: bytes) -> None:
        call = self.calls.get(call_id)
        if call is None:
            return
        self._open.pop(("caller", call_id, method), None)
        if status < 200:
            return
        if method == b"BYE":
            call.bye_status = status
            call.ended = True
            return
        if method != b"INVITE":
            return
        first = not call.finals
        call.finals.add(data)
        if first:
            call.status, call.answered_at = status, time.monotonic()
        to = _to_of(data)
        assert to is not None
        if status >= 300:
            call.ended = True
            uri = f"sip:{call.user}@{self.server[0]}:{self.server[1]}"
            self._send(self.caller, self._request("ACK", call, uri, "i", to[1]))
            return
        contact = _contact_of(data)
        target = contact[1].decode() if contact else ""
        routes = "".join(
            f"Route:{line[1].decode('latin-1').partition(':')[2]}\r\n"
            for line in reversed(list(_line_of[b"Record-Route"].finditer(data)))
        )
        self._send(self.caller, self._request("ACK", call, target, "a", to[1], routes))
        if first:
            bye = self._request("BYE", call, target, "b", to[1], routes)

            def hang_up() -> None:
                self._repeat(self.caller, ("caller", call_id, b"BYE"), bye, lambda: setattr(call, "ended", True))

            self._at(time.monotonic() + 0.1, hang_up)

    # --- the callee --------------------------------------------------------------------------------------------------

    def _requested(self, data: bytes, method: bytes, call_id: bytes, source: tuple[str, int]) -> None:
        branch = _branch_of(data)
        assert branch is not None
        if method == b"ACK":
            for name in [name for name in self._open if name[:2] == ("callee", call_id)]:
                del self._open[name]
            return
        if method != b"INVITE":
            self._send(self.callee, self._made_from(data, 200, "OK"), source)
            return
        if call_id in self.calls:
            self.calls[call_id].branches.add(branch[1])
        key = call_id + b" " + branch[1]
        if key in self._made:
            return
        self._send(self.callee, self._made_from(data, 180, "Ringing"), source)
        busy = self.random.random() < self.busy
        self._made[key] = final = self._made_from(data, 486, "Busy Here") if busy else self._made_from(data, 200, "OK")
        name = ("callee", call_id, branch[1])
        self._at(time.monotonic() + 0.05, lambda: self._repeat(self.callee, name, final, lambda: None))

    def _made_from(self, data: bytes, status: int, reason: str) -> bytes:
        port = self.callee_port
        lines = [f"SIP/2.0 {status} {reason}".encode()]
        for name in _IN_REPLIES:
            for found in _line_of[name].finditer(data):
                line = found[1]
                if name == b"To" and b";tag=" not in line:
                    line += b";tag=callee"
                lines.append(line)
        lines.append(f"Contact: <sip:bob@127.0.0.1:{port}>".encode())
        lines.append(b"Content-Length: 0")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    # --- both --------------------------------------------------------------------------------------------------------

    def _receive(self, side: socket.socket) -> None:
        for _ in range(200):
            try:
                data, source = side.recvfrom(65535)
            except BlockingIOError:
                return
            if self.lose and self.random.random() < self.lose:
                self.lost += 1
                continue
            call_id, cseq = _call_id_of(data), _cseq_of(data)
            if call_id is None or cseq is None:
                continue
            status = _status_of(data)
            if status is not None:
                self._reply(data, int(status[1]), call_id[1], cseq[2])
            elif side is self.callee:
                self._requested(data, data.split(b" ", 1)[0], call_id[1], source)


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made
