"""``$(<reply>…)``, ``$(<request>…)`` and ``$(<branch>…)``: a variable read from another message of the transaction.

The transaction layer tells how to get at what the current message does not hold (:data:`views`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.variable_kinds import Getter

View = Callable[[Context], Context | None]


class Views:
    """Contexts over messages of the transaction that a context works on; None: there is none."""

    def __init__(self) -> None:
        self.request: View = lambda ctx: None
        """The request that the transaction was made for."""
        self.branch: View = lambda ctx: None
        """The request as it was sent on the current branch."""


views = Views()
"""Filled by the transaction layer."""


def in_reply(get: Getter) -> Getter:
    """Read from the reply: the current message in an onreply route, the winning reply in a failure route."""

    def read(ctx: Context) -> Value:
        if not ctx.msg.is_request:
            return get(ctx)
        if ctx.reply is None:
            return None
        return get(_over(ctx, ctx.reply))

    return read


def in_request(get: Getter) -> Getter:
    """Read from the request: the current message, or in an onreply route the one that the transaction was made for."""

    def read(ctx: Context) -> Value:
        view = ctx if ctx.msg.is_request else views.request(ctx)
        return None if view is None else get(view)

    return read


def in_branch(get: Getter) -> Getter:
    """Read from the request as it was sent on the current branch: the one of an onreply route, the winner in a failure route."""

    def read(ctx: Context) -> Value:
        view = ctx if ctx.route_kind is RouteKind.BRANCH else views.branch(ctx)
        return None if view is None else get(view)

    return read


def _over(ctx: Context, msg: object) -> Context:
    view = copy.copy(ctx)
    view.msg = msg  # type: ignore[assignment]
    view.new_uri = None
    return view
