"""Who is told of what: the calls that go from a layer to one above it, which it does not know, in one place.

``wire()`` is called once, before the processes are forked.
"""

from __future__ import annotations

from opensips_py.clients import pools
from opensips_py.clients.service import pool as service
from opensips_py.core import async_events
from opensips_py.db.mysql import pool as mysql
from opensips_py.dns.resolver import resolver
from opensips_py.engine import blocking_wait, engine, outbox
from opensips_py.net import resolve
from opensips_py.script import names
from opensips_py.server import log, traffic
from opensips_py.tm import failure_route, transaction, uac_reply


def wire() -> None:
    """Connect the layers. Idempotent."""
    log.state.left_out = traffic.left_out_lines.add
    # the language asks for addresses, a wait that holds up the process serves the resolver too
    names.resolve_by(resolve.first_address)
    blocking_wait.served[:] = [resolver]
    # transactions: messages that could not be sent, replies that somebody wants to hear of
    transaction.unsent[:] = [failure_route.try_next_server]
    transaction.tellers.update({uac_reply.PREFIX: uac_reply.tell, outbox.PREFIX: outbox.deliver})
    # the async engine's deadlines and take-overs are events
    engine.observers[:] = [async_events.tell]
    # what the management command list_pools asks
    pools.describers.update(mysql=mysql.describe, service=service.describe)
