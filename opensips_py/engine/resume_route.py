"""What happens when an operation is done: its outputs are set, the resume or report route runs, and what follows it follows."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.engine import continuation as continuations
from opensips_py.engine import statistics as counted
from opensips_py.engine.dummy_request import report_context
from opensips_py.engine.operation import Done
from opensips_py.engine.running import Running
from opensips_py.engine.unsettled import unsettled
from opensips_py.script import variables
from opensips_py.script.context import Context, RouteKind, ValueRefused
from opensips_py.server.guard import report_error, run_guarded
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this


def apply(ctx: Context, done: Done) -> int:
    """Set outputs and ``$rc``; the return code."""
    rc = done.rc
    try:
        for text, value in done.outputs:
            variables.by_text(text).set(ctx, value)
    except ValueRefused as error:
        log(ERROR, "core", "async", str(error))
        rc = done.refused
    if done.slots:
        ctx.slots.update(done.slots)
    if done.then is not None:
        rc = _follow(ctx, done.then)
    ctx.rc = rc
    return rc


def _follow(ctx: Context, then: Callable[[Context], int]) -> int:
    try:
        return then(ctx)
    except Exception as error:  # a fault of the module, or in a route that it has run: the script must go on
        report_error(error, "async")
        return -1


def run_inline(ctx: Context, done: Done, route: str) -> int:
    """Run the resume route of an operation that was done at once."""
    counted.inline.add()
    ctx.params = ()
    ctx.depth = 0
    apply(ctx, done)
    if not ctx.suspended:
        _run_route(ctx, route)
    return 0


def report(done: Done, route: str | None, text: str | None, outer: Context | None = None) -> None:
    """Run the report route of launch(), if it has one."""
    if route is None:
        return
    ctx = report_context()
    ctx.outer = outer
    if text is not None:
        ctx.params = (text,)
    apply(ctx, done)
    _run_route(ctx, route)


def resume(running: Running, done: Done) -> None:
    """Run the resume route, then what follows it."""
    record = running.record
    ctx = running.ctx
    if ctx is None:
        ctx = continuations.thaw(record.context, continuations.unpack(record.continuation))
    continuation = continuations.of(ctx)
    ctx.suspended = False
    ctx.params = ()
    ctx.depth = 0
    if continuation.resume(ctx):
        apply(ctx, done)
        if record.route is not None and not ctx.suspended:
            _run_route(ctx, record.route)
        if ctx.suspended:
            continuation.leave(ctx)
        else:
            continuation.end(ctx)
    unsettled.clear()
    for frozen, state in record.outers:
        give_up(continuations.thaw(frozen, continuations.unpack(state)), 500, "Server Internal Error")


def give_up(ctx: Context, code: int, reason: str) -> None:
    """End a script that cannot go on; its request is answered with ``code``."""
    continuation = continuations.of(ctx)
    ctx.suspended = False
    if continuation.resume(ctx):
        continuation.give_up(ctx, code, reason)
    unsettled.clear()


def _run_route(ctx: Context, name: str) -> None:
    route = this.program.route(RouteKind.REQUEST, name)
    if route is None:
        log(ERROR, "core", "async", f"route [{name}] is not defined any more: the script has been reloaded without it")
        continuations.of(ctx).route_is_gone(ctx)
        return
    ctx.route_name = name
    run_guarded(ctx, route)
