"""Functions that compute values for the script."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, Var
from opensips_py.server.process import this


@module.function(routes=ALL)
def pv_printf(ctx: Context, variable: Var, text: str) -> int:
    """Write a format string into a variable."""
    variable.set(ctx, text)
    return 1


@module.function(routes=ALL)
def construct_uri(ctx: Context, proto: str, user: str, domain: str, port: str, params: str, result: Var) -> int:
    """Put a URI together: empty parts are left out; without scheme or domain nothing is written."""
    if not proto or not domain:
        return 1
    uri = f"{proto}:"
    if user:
        uri += f"{user}@"
    uri += domain
    if port:
        uri += f":{port}"
    if params:
        uri += f";{params}"
    result.set(ctx, uri)
    return 1


@module.function(routes=ALL)
def get_timestamp(ctx: Context, seconds: Var, microseconds: Var) -> int:
    """The time: seconds since 1970, and microseconds."""
    now = int(this.clock.wall() * 1e6)
    seconds.set(ctx, now // 1000000)
    microseconds.set(ctx, now % 1000000)
    return 1
