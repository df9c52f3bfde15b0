"""E_CORE_SHM_THRESHOLD: the shared store fills up (core parameter event_shm_threshold)."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.evi import events
from opensips_py.server.guard import report_error
from opensips_py.server.process import this

EVENT = "E_CORE_SHM_THRESHOLD"
SECONDS = 1.0
"""Pause between two looks."""

module.event(
    EVENT,
    *("usage", "threshold", "used", "size"),
    doc="when the shared store is filled to `event_shm_threshold` per cent, and at each further per cent; sizes in bytes",
)


class _Watch:
    """What was told last."""

    told = 0


@module.on_process
def watch() -> None:
    """The timer process looks."""
    if this.kind == "timer" and this.program.settings.event_shm_threshold:
        _Watch.told = 0
        this.reactor.call_at(this.clock.now() + SECONDS, _look)


def _look() -> None:
    try:
        compare()
    except Exception as error:  # the next look may succeed
        report_error(error, "core")
    this.reactor.call_at(this.clock.now() + SECONDS, _look)


def compare() -> None:
    """Raise the event if the store has filled since it was raised last."""
    info = this.store.info()
    usage = info.used_size * 100 // info.total_size
    threshold = this.program.settings.event_shm_threshold
    if usage < threshold:
        _Watch.told = 0
    elif usage != _Watch.told:
        _Watch.told = usage
        if events.wanted(EVENT):
            parameters = [("usage", usage), ("threshold", threshold), ("used", info.used_size), ("size", info.total_size)]
            events.raise_event(EVENT, parameters)
