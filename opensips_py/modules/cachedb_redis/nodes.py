"""Which server of a Redis cluster has which keys, as this process has learned it from the servers' answers.

A server that does not have a key says which one does. Then the question goes there, and so do later ones for keys of the same
slot, until that server cannot be reached any more or says something else.
"""

from __future__ import annotations

from opensips_py.clients.service import pool as services
from opensips_py.clients.service.operation import Elsewhere
from opensips_py.clients.service.pool import Pool
from opensips_py.modules.cachedb_redis.protocol import Redirection, command, slot_of

ASKING = command(b"ASKING")
"""Goes before a question for a key that is just moving there."""

_places: dict[tuple[str, int], Pool] = {}
"""By key of the service and slot; only what the servers of the URL do not have."""


def pool_for(service: str, key: bytes) -> Pool:
    """Where to ask for a key. KeyError when there is no such service."""
    if _places:
        place = (service, slot_of(key))
        found = _places.get(place)
        if found is not None and not found.down:
            return found
        if found is not None:  # another server may have its keys by now
            del _places[place]
    return services.pool(service)


def elsewhere(asked: Pool, there: Redirection, question: bytes) -> Elsewhere:
    """Send a question on."""
    service = asked.service.key.partition("@")[0]
    host = there.host or asked.service.servers[0][0]
    other = services.pool_at(service, host, there.port)
    if there.for_ever:
        _places[service, there.slot] = other
        return Elsewhere(other, question)
    return Elsewhere(other, ASKING + question)
