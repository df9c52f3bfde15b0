"""The events of the async engine (ours): an operation was ended by a deadline, or goes on in another process."""

from __future__ import annotations

from opensips_py.engine.parked import ParkedHead
from opensips_py.evi import events

PARAMETERS = ("function", "route", "where", "token", "age")


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
