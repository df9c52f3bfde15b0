"""Which processes a server has, and what the attendant knows of each."""

from __future__ import annotations

from collections.abc import Callable

from ipc.counters import SlotStatus
from opensips_py.engine.take_over import Name
from opensips_py.net.tcp import RECEIVER
from opensips_py.script.program import Program
from opensips_py.server.process import this
from workers import sip_receiver, tcp_receiver, timer
from workers.child import Child, Place

TIMER = "timer"
"""``this.kind`` of the timer process."""


def process_table(program: Program) -> list[Place]:
    """OpenSIPS' order: module processes, timer, SIP receivers socket by socket, TCP receivers."""
    places: list[Place] = []

    def add(kind: str, main: Callable[[Child], None], index: int = -1, receives: bool = False) -> None:
        places.append(Place(len(places) + 1, kind, main, index, receives))

    if "mi_fifo" in program.modules:
        from workers import mi_process

        add("MI FIFO", mi_process.main)
    add(TIMER, timer.main)
    for listen in program.sockets:
        if listen.proto != "udp":
            continue
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        for _ in range(listen.workers or program.settings.udp_workers):
            add(f"SIP receiver {listen.proto}:{host}:{listen.port}", sip_receiver.main, listen.index, receives=True)
    if any(listen.proto == "tcp" for listen in program.sockets):
        for _ in range(program.settings.tcp_workers):
            add(RECEIVER, tcp_receiver.main, receives=True)
    return places


class Worker:
    """A living child process."""

    __slots__ = ("incarnation", "interrupted", "nudged", "pid", "place", "started", "status", "stopped")

    def __init__(self, place: Place, pid: int, incarnation: int, status: SlotStatus) -> None:
        self.place, self.pid, self.incarnation, self.status = place, pid, incarnation, status
        self.started = this.clock.now()
        self.interrupted: list[tuple[float, bytes]] = []
        """Transactions that it was told to answer, and when: should it die before it has, another is told."""
        self.nudged = 0
        """``busy_since_ns`` of the callback for which another receiver was told to look at its socket."""
        self.stopped = 0
        """How often in a row it has been found to be stopped."""

    def __str__(self) -> str:
        return f"{self.place.slot} ({self.place.kind}, pid {self.pid})"

    @property
    def name(self) -> Name:
        """How operations name their owner."""
        return Name(this.node, self.place.slot, self.incarnation)

    @property
    def receives(self) -> bool:
        """Whether it can take operations over."""
        return self.place.receives
