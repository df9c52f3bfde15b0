"""OpenSIPS module usrloc: where users can be reached. Module registrar fills it and asks it.

Contacts live in the shared store, so every worker sees every registration. With a database they are read from it at the start,
and written to it at once or every ``timer_interval`` (``working_mode_preset``).
"""

from __future__ import annotations

from opensips_py.modules.usrloc import management, persistence, tables  # noqa: F401  (its commands declare themselves)
from opensips_py.modules.usrloc.declared import module, timer_interval
from opensips_py.server.guard import report_error
from opensips_py.server.process import this

__all__ = ["module"]


@module.on_process
def _start() -> None:
    """The timer process removes what has expired."""
    persistence.fill_store()
    if this.kind != "timer":
        return
    persistence.sweep_now_and_then()

    def tick() -> None:
        try:
            tables.remove_expired()
        except Exception as error:  # the next turn may succeed
            report_error(error, "usrloc")
        this.reactor.call_at(this.clock.now() + timer_interval.value, tick)

    this.reactor.call_at(this.clock.now() + timer_interval.value, tick)
