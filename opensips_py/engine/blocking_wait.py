"""Waiting for one operation and nothing else, and when its time is up."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

from opensips_py.engine.operation import READ, TIMEOUT, WRITE, Done, Operation, earliest
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this


class Served(Protocol):
    """What goes on beside the operation that the process waits for."""

    def deadline(self) -> float | None:
        """``this.clock.now()`` at which it has something to do; None: it is idle."""

    def fileno(self) -> int:
        """Readable when it has something to do; negative: none."""

    def run(self) -> None:
        """Do what is due."""


served: list[Callable[[], Served]] = []
"""Filled by :mod:`opensips_py.core.wiring`."""


def drive(op: Operation, limit: float | None = None) -> Done:
    """Start an operation and wait until it is done, or ``limit`` (this.clock.now()) has passed. Holds up the process."""
    done = op.start()
    while done is None:
        fd, deadline = op.fileno(), earliest(op.deadline, limit)
        left = None if deadline is None else deadline - this.clock.now()
        if left is not None and left <= 0:
            return expire(op, limit)
        if fd < 0:
            if left is None:
                op.close()
                log(ERROR, "core", "wait", f"{op.name}: nothing to wait for in a plain call")
                return Done(-1)
            time.sleep(left)
            continue
        if wait_ready(fd, op.wants, deadline):
            done = op.advance()
    return done


def limit_of(op: Operation, seconds: float | None, where: str) -> float | None:
    """``this.clock.now()`` at which the engine ends the operation, from what the statement or ``async_timeout`` says."""
    if seconds is not None and seconds < 0:
        log(ERROR, "core", "async", f"{where}: the time limit is not a number of seconds; async_timeout holds")
        seconds = None
    if seconds is None:
        seconds = this.program.settings.async_timeout.of(op.name, op.takes_default_deadline)
    return this.clock.now() + seconds if seconds else None


def expire(op: Operation, limit: float | None) -> Done:
    """Its time is up. Whatever the operation is, TIMEOUT says that ``limit`` was what ended it."""
    ends_here = limit is not None and op.counts_as_timeout and (op.deadline is None or limit < op.deadline)
    try:
        done = op.expire()
    except Exception as error:  # a fault of the module: the script must go on nevertheless
        report_error(error, op.name)
        done = Done(-1)
    return Done(TIMEOUT, done.outputs) if ends_here else done


def wait_ready(fd: int, wants: int, deadline: float | None) -> bool:
    """Wait until ``fd`` is ready, or something else was done meanwhile (False): what is ``served`` needs no reactor then."""
    poll = select.poll()
    poll.register(fd, (select.POLLIN if wants & READ else 0) | (select.POLLOUT if wants & WRITE else 0))
    busy = []
    for other in [serve() for serve in served]:
        until = other.deadline()
        if until is not None:
            busy.append(other)
            deadline = earliest(deadline, until)
            if other.fileno() >= 0:
                poll.register(other.fileno(), select.POLLIN)
    ready = poll.poll(None if deadline is None else max(0.0, deadline - this.clock.now()) * 1000 + 1)
    for other in busy:
        other.run()
    return any(descriptor == fd for descriptor, _ in ready)
