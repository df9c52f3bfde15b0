"""A SIP receiver: reads datagrams from one shared socket and runs the script over each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from opensips_py.engine import outbox
from opensips_py.engine.dummy_request import report_context
from opensips_py.engine.parked import OWNER_SIZE, TOKEN_SIZE
from opensips_py.script.context import RouteKind
from opensips_py.server.guard import run_guarded
from opensips_py.server.process import this
from opensips_py.tm.failure_route import interrupted
from opensips_py.tm.receive import receive_message
from workers.child import Child, drain_seconds
from workers.shared_queue import SharedQueue
from workers.timer import stand_in
from workers.timer_watch import BEGIN, END

LAST_WORDS = 0.5
"""Seconds after the deadline of draining for what other receivers still want to have sent."""


def main(child: Child) -> None:
    """Body of a SIP receiver."""
    index = child.place.socket_index
    listen = this.sockets[index]

    status = child.shared.counters.status
    colleagues = [status(slot) for slot, kind in enumerate(this.kinds) if kind == this.kind and slot != this.slot]
    child.fd_line.on_hand_over = handed_over
    receive = partial(receive_message, socket=listen)
    SharedQueue(child.shared.handles[index], child.reactor, child.status, colleagues, receive).watch()
    child.watch_termination(lambda: drain(child))
    child.ready()
    child.reactor.run()


def handed_over(message: bytes, fds: list[int]) -> None:
    """Work of another process: ``P``, token and owner of a parked operation; ``M``, several without descriptors; ``T`` key, a
    transaction whose script died; ``B`` and ``E``, from when until when to stand in for the timer process."""
    if message[:1] in (b"P", b"M"):
        for at in range(1, len(message), TOKEN_SIZE + OWNER_SIZE):
            behind = at + TOKEN_SIZE
            this.engine.take_over(message[at:behind], message[behind : behind + OWNER_SIZE], fds)
    elif message in (BEGIN, END):
        stand_in(message == BEGIN)
    else:
        interrupted(message[1:])


def run_startup_route() -> int:
    """Run startup_route, if the script has one; its return code (negative: the server must not start)."""
    route = this.program.route(RouteKind.STARTUP, "0")
    if route is None:
        return 1
    ctx = report_context(RouteKind.STARTUP)
    return run_guarded(ctx, route)


def _is_needed() -> bool:
    """Whether operations of any process are under way, or on their way to one: this one may have to take them, or to send what
    comes of them over its connections.

    Asked in this order: who resumes a script has counted down what is parked, and is busy until it has posted what is to be sent.
    """
    others = [this.counters.status(slot) for slot in range(len(this.kinds)) if slot != this.slot]
    return any(status.parked for status in others) or any(status.busy_since_ns for status in others)


def drain(child: Child, has_work: Callable[[], bool] = lambda: False) -> None:
    """SIGTERM: refuse new requests, let parked operations end until the deadline, answer 503 to the rest.

    As long as other processes have something parked or run a script, they may need this one: should they die, it takes that over.
    They have a little longer than the deadline. ``has_work``: whether there is something left to send.
    """
    boxes = child.shared.mailboxes
    this.draining = True
    deadline = this.clock.now() + drain_seconds()

    def is_sending() -> bool:
        return has_work() or (boxes is not None and boxes.unsent)

    def look() -> None:
        late = this.clock.now() - deadline
        if late >= 0 and len(this.engine):
            this.engine.answer_parked(503, "Service Unavailable")
        idle = late >= 0 or not (len(this.engine) or outbox.under_way)
        if idle and (late >= LAST_WORDS or not (_is_needed() or child.fd_line.unread or is_sending())):
            child.reactor.stop()
        else:
            child.reactor.call_at(this.clock.now() + 0.02, look)

    look()
