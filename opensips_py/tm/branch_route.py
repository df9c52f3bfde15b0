"""A branch route over one destination: what it sees, and that what it changes holds for this branch alone."""

from __future__ import annotations

from typing import Any

import msgspec

from opensips_py.script.context import Branch, Context, RouteKind
from opensips_py.server.process import this
from opensips_py.tm import msg_translator


class _Kept(msgspec.Struct, array_like=True):
    """What the context had before, as it is stored while the branch route is suspended."""

    new_uri: str | None
    dst_uri: str | None
    path: str | None
    q: int
    branch_flags: int
    send_socket: str | None
    kind: int
    name: str
    index: int
    dropped: bool
    rc: int
    edits: list[tuple[int, int, str]]
    branches: list[Branch]
    sender: dict[str, Any]


class _Frozen(msgspec.Struct, array_like=True):
    kept: _Kept
    name: str
    index: int
    reply_route: str | None


class BranchRun:
    """Turns the context of t_relay() into that of a branch route, and back."""

    __slots__ = ("_ctx", "_frozen", "_kept", "_params")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        socket = ctx.send_socket
        self._kept = _Kept(
            ctx.new_uri,
            ctx.dst_uri,
            ctx.path,
            ctx.q,
            ctx.branch_flags,
            None if socket is None else socket.name,
            int(ctx.route_kind),
            ctx.route_name,
            ctx.branch_index,
            ctx.dropped,
            ctx.rc,
            ctx.msg.edits,
            ctx.branches,
            {name: ctx.slots[name] for name in msg_translator.SENDER_SLOTS if name in ctx.slots},
        )
        self._params = (ctx.params, ctx.depth)
        self._frozen: _Frozen | None = None

    def begin(self, target: Branch, index: int, name: str) -> None:
        """Show the branch route ``name`` the destination ``target``, branch number ``index``."""
        ctx, msg = self._ctx, self._ctx.msg
        msg.edits = list(msg.edits)
        ctx.new_uri = None if target.uri == msg.ruri else target.uri
        ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags = target.dst_uri, target.path, target.q, target.flags
        ctx.send_socket = None if target.socket is None else this.sockets_by_name[target.socket]
        ctx.route_kind = RouteKind.BRANCH
        ctx.route_name = name
        ctx.branch_index = index
        ctx.dropped = False
        ctx.params, ctx.depth = (), 0
        ctx.slots.pop("tm.bavp", None)

    def end(self) -> None:
        """Give the context back what it had; AVPs and message flags stay as the route has left them."""
        ctx, kept = self._ctx, self._kept
        ctx.msg.edits, ctx.branches = kept.edits, kept.branches
        for name in msg_translator.SENDER_SLOTS:
            ctx.slots.pop(name, None)
        ctx.slots.update(kept.sender)
        ctx.new_uri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags = (
            kept.new_uri,
            kept.dst_uri,
            kept.path,
            kept.q,
            kept.branch_flags,
        )
        ctx.send_socket = None if kept.send_socket is None else this.sockets_by_name[kept.send_socket]
        ctx.route_kind, ctx.route_name, ctx.branch_index = RouteKind(kept.kind), kept.name, kept.index
        ctx.dropped, ctx.rc = kept.dropped, kept.rc
        ctx.params, ctx.depth = self._params

    # --- in another process ---------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        """State for :meth:`thaw`, while the route is suspended."""
        ctx = self._ctx
        return msgspec.msgpack.encode(_Frozen(self._kept, ctx.route_name, ctx.branch_index, ctx.tx.branch_reply_route))

    @classmethod
    def thaw(cls, state: bytes) -> BranchRun:
        """The run in another process; :meth:`show` gives it its context."""
        run = cls.__new__(cls)
        run._frozen = msgspec.msgpack.decode(state, type=_Frozen)
        run._kept = run._frozen.kept
        run._params = ((), 0)
        return run

    def show(self, ctx: Context) -> None:
        """The route goes on over ``ctx``, thawed from what it had changed."""
        self._ctx = ctx
        frozen = self._frozen
        if frozen is not None:
            ctx.route_name, ctx.branch_index = frozen.name, frozen.index
            ctx.tx.branch_reply_route = frozen.reply_route
