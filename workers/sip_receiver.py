"""A SIP receiver: reads datagrams from one shared socket and runs the script over each."""

from __future__ import annotations

import time
from collections.abc import Callable

from opensips_py.core.failure import interrupted
from opensips_py.core.guard import run_guarded
from opensips_py.core.parked import TOKEN_SIZE
from opensips_py.core.process import this
from opensips_py.core.receive import receive_message
from opensips_py.core.report import report_context
from opensips_py.script.context import RouteKind
from workers.child import Child, drain_seconds

DATAGRAM = 65535
"""Largest UDP datagram in bytes."""
LAST_WORDS = 0.5
"""Seconds after the deadline of draining for what other receivers still want to have sent."""
BURST = 8
"""Datagrams read per wake-up: they come in bursts, and waking up costs more than trying once more."""


def main(child: Child) -> None:
    """Body of a SIP receiver."""
    index = child.place.socket_index
    handle, listen = child.shared.handles[index], this.sockets[index]
    recvfrom = handle.recvfrom
    receive = receive_message

    single = 0
    """How many of the next wake-ups read only one datagram, because the last attempt to read a second was in vain."""

    def readable(events: int) -> None:
        nonlocal single
        try:
            data, address = recvfrom(DATAGRAM)
            receive(data, address, listen)
            if single:
                single -= 1
                return
            single = BURST
            for _ in range(BURST):
                data, address = recvfrom(DATAGRAM)
                single = 0
                receive(data, address, listen)
        except (BlockingIOError, ConnectionRefusedError):
            # nothing left, or another receiver was faster; or an ICMP error of an earlier datagram
            return

    child.fd_line.on_hand_over = handed_over
    child.reactor.add_shared(handle.fileno(), readable)
    child.watch_termination(lambda: drain(child))
    child.ready()
    child.reactor.run()


def handed_over(message: bytes, fds: list[int]) -> None:
    """Work of another process: ``P`` token, a parked operation; ``M`` tokens, several without descriptors; ``T`` key, a
    transaction whose script died."""
    if message[:1] == b"P":
        this.engine.take_over(message[1:], fds)
    elif message[:1] == b"M":
        for at in range(1, len(message), TOKEN_SIZE):
            this.engine.take_over(message[at : at + TOKEN_SIZE], [])
    else:
        interrupted(message[1:])


def run_startup_route() -> int:
    """Run startup_route, if the script has one; its return code (negative: the server must not start)."""
    route = this.program.route(RouteKind.STARTUP, "0")
    if route is None:
        return 1
    ctx = report_context(RouteKind.STARTUP)
    return run_guarded(ctx, route)


def drain(child: Child, elsewhere: Callable[[], bool] | None = None) -> None:
    """SIGTERM: refuse new requests, let parked operations end until the deadline, answer 503 to the rest.

    ``elsewhere`` tells whether other processes still need this one; they have a little longer.
    """
    this.draining = True
    deadline = time.monotonic() + drain_seconds()
    given_up = False

    def look() -> None:
        nonlocal given_up
        if len(this.engine) and time.monotonic() >= deadline and not given_up:
            given_up = True
            this.engine.answer_parked(503, "Service Unavailable")
        idle = given_up or len(this.engine) == 0
        if idle and (elsewhere is None or time.monotonic() >= deadline + LAST_WORDS or not elsewhere()):
            child.reactor.stop()
        else:
            child.reactor.call_at(time.monotonic() + 0.02, look)

    look()
