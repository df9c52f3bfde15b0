"""Looking names up on behalf of scripts. The server puts its own resolver here when it starts."""

from __future__ import annotations

import socket
from collections.abc import Callable

from opensips_py.script.context import Context


def by_system(ctx: Context, name: str) -> str | None:
    """The first address of a name, by the system's resolver: where a script runs without a server."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


class _Chosen:
    resolve: Callable[[Context, str], str | None] = staticmethod(by_system)


def first_address(ctx: Context, name: str) -> str | None:
    """An address of host ``name``; None when it has none. Waits, on behalf of the script that runs over ``ctx``."""
    return _Chosen.resolve(ctx, name)


def resolve_by(resolve: Callable[[Context, str], str | None]) -> None:
    """Have names looked up by ``resolve`` from now on."""
    _Chosen.resolve = staticmethod(resolve)
