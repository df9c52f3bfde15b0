"""A server without processes and waiting: the real reception, transactions and store; time and network are driven."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import CodeType
from typing import Any

from ipc.lmdb_store import LmdbStore
from opensips_py.script.context import Context, ListenSocket, RouteKind
from opensips_py.script.parameters import Settings
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import timers
from opensips_py.tm.receive import receive_message
from opensips_py.tm.record import Record, decode
from tests.support.driven_clock import DrivenClock

UAC = ("127.0.1.1", 15061)
UAS1 = ("127.0.1.2", 15062)
UAS2 = ("127.0.1.3", 15063)

Routes = dict[tuple[RouteKind, str], Callable[[Context], int]]


class Wire:
    """Stands for an OS socket: keeps what is sent."""

    def __init__(self, world: World) -> None:
        self.world = world

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        if address in self.world.unreachable:
            raise OSError("network is unreachable")
        self.world.sent.append((address, data))


class Program:
    """Routes in the place of a compiled script."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.settings = Settings()
        self.called: frozenset[str] = frozenset()
        self.modules: dict[str, object] = {}
        self.event_routes: dict[str, object] = {}
        self.aliases: list[tuple[str | None, str, int | None]] = []

    def route(self, kind: RouteKind, name: str) -> Callable[[Context], int] | None:
        return self.routes.get((kind, name))

    def locate(self, error: BaseException) -> tuple[str, int] | None:
        return None

    def place(self, code: CodeType, line: int) -> tuple[str, int] | None:
        return None


class World:
    """One server; requests and replies go in, what it sends comes out."""

    def __init__(self, directory: str, monkeypatch: Any) -> None:
        self.store = LmdbStore.create(directory, 64 << 20)
        self._clock = DrivenClock(monkeypatch, 1000.0)
        self.sent: list[tuple[tuple[str, int], bytes]] = []
        self.unreachable: set[tuple[str, int]] = set()
        self.socket = ListenSocket(0, "udp", "127.0.0.1", 15060)
        for name, value in (("store", self.store), ("sockets", [self.socket]), ("handles", [Wire(self)])):
            monkeypatch.setattr(this, name, value, raising=False)
        self._patch = monkeypatch

    @property
    def now(self) -> float:
        """What time it is."""
        return self._clock.now

    @now.setter
    def now(self, now: float) -> None:
        self._clock.now = now

    def script(self, main: Callable[[Context], int], **named: Callable[[Context], int]) -> None:
        """Run ``main`` for requests. ``failure_x``, ``onreply_x``, ``branch_x`` are further routes."""
        routes: Routes = {(RouteKind.REQUEST, "0"): main}
        for name, route in named.items():
            kind, _, rest = name.partition("_")
            routes[RouteKind[kind.upper()], rest or "0"] = route
        self._patch.setattr(this, "program", Program(routes), raising=False)

    def receive(self, data: bytes, source: tuple[str, int]) -> list[tuple[tuple[str, int], SipMessage]]:
        """A datagram comes in; what goes out because of it."""
        self.sent.clear()
        receive_message(data, source, self.socket)
        return self.taken()

    def taken(self) -> list[tuple[tuple[str, int], SipMessage]]:
        out = [(address, reread(data)) for address, data in self.sent]
        self.sent.clear()
        return out

    def pass_time(self, seconds: float) -> list[tuple[float, tuple[str, int], SipMessage]]:
        """Let time pass, firing timers exactly when they are due; what goes out, with the time since the start."""
        start, end = self.now, self.now + seconds
        out = []
        while True:
            self.sent.clear()
            following = timers.fire_due(self.now)
            out += [(round(self.now - start, 3), address, reread(data)) for address, data in self.sent]
            self.sent.clear()
            if following is None or following > end:
                self.now = end
                return out
            self.now = following

    def records(self) -> list[Record]:
        return [decode(data) for _, data in self.store.scan(b"t")]

    def entries(self) -> int:
        return self.store.info().entries


def summary(out: list[Any]) -> list[str]:
    """``100>UAC``, ``INVITE>UAS1`` …: what went where."""
    names = {UAC: "UAC", UAS1: "UAS1", UAS2: "UAS2"}
    lines = []
    for item in out:
        address, msg = item[-2:]
        what = f"{msg.method}" if msg.is_request else f"{msg.status}"
        lines.append(f"{what}>{names.get(address, address)}")
    return lines


def request(
    method: str, uri: str = "sip:bob@127.0.1.2:15062", branch: str = "b1", cseq: int = 1, to_tag: str = "", extra: str = ""
) -> bytes:
    tag = f";tag={to_tag}" if to_tag else ""
    return (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-{branch}\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:alice@example.org>;tag=ft1\r\n"
        f"To: <sip:bob@example.com>{tag}\r\n"
        "Call-ID: call1@test\r\n"
        f"CSeq: {cseq} {method}\r\n"
        f"{extra}Content-Length: 0\r\n\r\n"
    ).encode()


def reply_to(msg: SipMessage, code: int, reason: str = "Reason", tag: str = "uas") -> bytes:
    """A UAS' reply to a request that the server has sent."""
    lines = []
    for header in msg.headers:
        if header.kind in ("via", "from", "call-id", "cseq"):
            lines.append(f"{header.name}: {header.value}")
        if header.kind == "to":
            value = header.value if "tag=" in header.value or code == 100 else f"{header.value};tag={tag}"
            lines.append(f"To: {value}")
    return (f"SIP/2.0 {code} {reason}\r\n" + "\r\n".join(lines) + "\r\nContent-Length: 0\r\n\r\n").encode()


def find(out: list[Any], pattern: str) -> SipMessage:
    """The one message whose summary matches."""
    found = [item[-1] for item, text in zip(out, summary(out), strict=True) if re.fullmatch(pattern, text)]
    assert len(found) == 1, summary(out)
    message: SipMessage = found[0]
    return message
