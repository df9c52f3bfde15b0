"""The events of the async engine (ours): an operation was ended by a deadline, or goes on in another process."""

from __future__ import annotations

from opensips_py.core import events
from opensips_py.core.core_module import module
from opensips_py.core.parked import ParkedHead

TIMEOUT = "E_ASYNC_TIMEOUT"
TAKEOVER = "E_ASYNC_TAKEOVER"
_PARAMETERS = ("function", "route", "where", "token", "age")

module.event(
    TIMEOUT,
    *_PARAMETERS,
    doc="when a deadline has ended an operation of async() or launch(): the function, the route that runs then, the statement "
    "(`file:line`), the token and the age in milliseconds",
)
module.event(
    TAKEOVER,
    *_PARAMETERS,
    doc="when an operation of a process that has died or is stuck goes on in another; parameters as of E_ASYNC_TIMEOUT",
)


def tell(event: str, token: bytes, record: ParkedHead, seconds: float) -> None:
    """Raise one of them, if anybody wants to know."""
    if events.wanted(event):
        parameters: list[tuple[str, str | int]] = [
            ("function", record.function),
            ("route", record.route or ""),
            ("where", record.where),
            ("token", token.hex()),
            ("age", round(seconds * 1000)),
        ]
        events.raise_event(event, parameters)
