"""Lists of forbidden destinations (``dst_blacklist``). None exists here: a script that uses one of its own is refused."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL
from opensips_py.server.log import ERROR, log


@module.function(routes=ALL)
def use_blacklist(ctx: Context, name: str) -> int:
    """Let no request of this message go to the destinations of a list. -1: there is no such list.

    Lists of ``dst_blacklist`` are not supported yet: a script that defines one and uses this function is refused.
    """
    return _unknown("use_blacklist", name)


@module.function(routes=ALL)
def unuse_blacklist(ctx: Context, name: str) -> int:
    """The reverse of use_blacklist(). -1: there is no such list."""
    return _unknown("unuse_blacklist", name)


def _unknown(function: str, name: str) -> int:
    log(ERROR, "core", function, f"there is no blacklist {name[:100]}")
    return -1
