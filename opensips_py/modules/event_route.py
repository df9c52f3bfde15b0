"""OpenSIPS module event_route: script routes that run when an event is raised.

The work is done by the core: ``event_route[NAME]`` blocks belong to the language, and whatever raises the event runs them, in
its own process: after the message that is being processed, or at once with ``event_route[NAME, sync]``. The parameters of the
event are ``$param(name)`` and ``$param(number)``. The module is there so that scripts that load it go on working.
"""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("event_route", doc="Routes that run when an event is raised (OpenSIPS module event_route)")
