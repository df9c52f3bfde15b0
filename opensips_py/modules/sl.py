"""OpenSIPS module sl: stateless replies."""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, E, Line, R
from opensips_py.tm import errors, stateless
from opensips_py.tm.stateless import module

__all__ = ["module"]

enable_stats = module.param("enable_stats", int, 1, doc="count replies")


@module.on_check
@module.on_config
def _configure() -> None:
    if enable_stats.value not in (0, 1):
        raise ConfigError(f"sl: enable_stats is 0 or 1, not {enable_stats.value}")
    stateless.Switch.statistics = bool(enable_stats.value)


@module.function(routes=R | E)
def sl_send_reply(ctx: Context, code: int, reason: Line) -> int:
    """Answer the request without a transaction. 1 sent (or an ACK, which is never answered), -1 error."""
    if not 100 <= code <= 699:
        return -1
    return stateless.send(ctx, code, reason)


@module.function(routes=R)
def sl_reply_error(ctx: Context) -> int:
    """Answer with the status that fits the last internal error, for instance of t_relay()."""
    code, reason = errors.error_reply(int(ctx.slots.get("tm.error", 1)), "SL")
    return stateless.send_error(ctx, code, reason)
