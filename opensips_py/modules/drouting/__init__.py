"""Dynamic routing: calls to gateways, by prefix of the number, group of the caller, time and priority (OpenSIPS module drouting).

``do_routing(group)`` finds a rule and aims the request at its first gateway that works; ``use_next_gw()``, in a failure route, at
the next one. Tables dr_gateways, dr_carriers and dr_rules are kept in memory, and ``dr_reload`` reads them again for all
processes at one moment; dr_groups is asked for each call without a group, in one operation: plain, in ``async()``, ``launch()``
and ``await()``. The second field of ``timerec`` is the duration, as in OpenSIPS. Which gateways work all processes know, and with
``persistent_state`` the database a second later; the timer process probes them.
"""

from __future__ import annotations

from opensips_py.modules.drouting import gateway_checks, management, probes, routing  # noqa: F401  (what they declare)
from opensips_py.modules.drouting.declared import module

__all__ = ["module"]
